package main

import (
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"knative.dev/networking/pkg/apis/networking"
	"knative.dev/networking/pkg/apis/networking/v1alpha1"
)

func ingress(ofClass string, hosts []string, paths ...v1alpha1.HTTPIngressPath) *v1alpha1.Ingress {
	return &v1alpha1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{networking.IngressClassAnnotationKey: ofClass}},
		Spec: v1alpha1.IngressSpec{Rules: []v1alpha1.IngressRule{{
			Hosts: hosts, HTTP: &v1alpha1.HTTPIngressRuleValue{Paths: paths},
		}}},
	}
}

func path(prefix string, splits ...v1alpha1.IngressBackendSplit) v1alpha1.HTTPIngressPath {
	return v1alpha1.HTTPIngressPath{Path: prefix, Splits: splits}
}

func to(service string, percent int) v1alpha1.IngressBackendSplit {
	return v1alpha1.IngressBackendSplit{IngressBackend: v1alpha1.IngressBackend{ServiceName: service}, Percent: percent}
}

func TestRoutes(t *testing.T) {
	tagged := path("", to("tagged", 100))
	tagged.Headers = map[string]v1alpha1.HeaderMatch{"Tag": {Exact: "new"}}
	all := []*v1alpha1.Ingress{
		ingress("of.another", []string{"a.example.com"}, path("", to("wrong", 100))),
		ingress(class, []string{"a.example.com", "a.default.svc"}, path("", to("old", 90), to("new", 10)), path("/v2", to("v2", 0)), tagged),
	}
	for _, c := range []struct {
		host, path, tag string
		draw            int
		wanted          string
	}{
		{"a.example.com", "/", "", 0, "old"},
		{"a.example.com:8080", "/", "", 89, "old"},
		{"A.Default.svc", "/", "", 90, "new"},
		{"a.example.com", "/v2/models", "", 99, "v2"},
		{"a.example.com", "/", "new", 99, "tagged"},
		{"a.example.com", "/", "other", 0, "old"},
		{"b.example.com", "/", "", 0, ""},
	} {
		request, err := http.NewRequest(http.MethodGet, "http://proxy"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = c.host
		request.Header.Set("Tag", c.tag)
		seen := ""
		if _, split := route(all, request, c.draw); split != nil {
			seen = split.ServiceName
		}
		if seen != c.wanted {
			t.Errorf("%+v goes to %q", c, seen)
		}
	}
}

func TestAnEndpointIsChosen(t *testing.T) {
	service := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "http2", Port: 81}}}}
	endpoints := &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}},
		Ports:     []corev1.EndpointPort{{Name: "http", Port: 8012}, {Name: "http2", Port: 8013}},
	}}}
	for _, c := range []struct {
		port    intstr.IntOrString
		turn    int
		address string
		h2c     bool
	}{
		{intstr.FromInt32(80), 0, "10.0.0.1:8012", false},
		{intstr.FromString("http2"), 3, "10.0.0.2:8013", true},
	} {
		address, h2c, err := choose(service, endpoints, v1alpha1.IngressBackend{ServicePort: c.port}, c.turn)
		if err != nil || address != c.address || h2c != c.h2c {
			t.Errorf("%+v: %s, %v, %v", c, address, h2c, err)
		}
	}
	if _, _, err := choose(service, endpoints, v1alpha1.IngressBackend{ServicePort: intstr.FromInt32(82)}, 0); err == nil {
		t.Error("there is no port 82")
	}
	if _, _, err := choose(service, &corev1.Endpoints{}, v1alpha1.IngressBackend{ServicePort: intstr.FromInt32(80)}, 0); err == nil {
		t.Error("nothing is ready")
	}
}
