// An ingress for Knative that needs no Envoy: it reads the Ingress objects that Knative's routes make and proxies by them.
// It does what tests/cluster needs of Kourier or Istio and no more: hosts, paths, splits, added headers, HTTP/1.1 and h2c.
// TLS, probes of itself and requests that are tried again are not among that.
package main

import (
	"context"
	"errors"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"knative.dev/networking/pkg/apis/networking"
	"knative.dev/networking/pkg/apis/networking/v1alpha1"
	"knative.dev/networking/pkg/client/clientset/versioned"
	"knative.dev/networking/pkg/client/informers/externalversions"
	listers "knative.dev/networking/pkg/client/listers/networking/v1alpha1"
)

const (
	class = "corymb-test.ingress.networking.knative.dev"
	// Where services of the cluster find it.
	domain = "ingress.knative-serving.svc.cluster.local"
	// A request may wait for the first pod of a revision; this bounds the wait for its headers.
	answerWithin = 10 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	cluster, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	knative, err := versioned.NewForConfig(config)
	if err != nil {
		return err
	}
	of := informers.NewSharedInformerFactory(cluster, 0)
	ofKnative := externalversions.NewSharedInformerFactory(knative, 0)
	ingresses := ofKnative.Networking().V1alpha1().Ingresses()
	p := &proxy{
		ingresses: ingresses.Lister(),
		services:  of.Core().V1().Services().Lister(),
		endpoints: of.Core().V1().Endpoints().Lister(),
		plain:     transport(false),
		h2c:       transport(true),
	}
	if _, err := ingresses.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { accept(ctx, knative, object) },
		UpdateFunc: func(_, object any) { accept(ctx, knative, object) },
	}); err != nil {
		return err
	}
	of.Start(ctx.Done())
	of.WaitForCacheSync(ctx.Done())
	ofKnative.Start(ctx.Done())
	ofKnative.WaitForCacheSync(ctx.Done())

	server := &http.Server{Addr: ":8080", Handler: p, ReadHeaderTimeout: 30 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = server.Shutdown(ending)
	})
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// transport keeps connections to pods and to the activator.
func transport(h2c bool) *http.Transport {
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   100,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: answerWithin,
		Protocols:             new(http.Protocols),
	}
	t.Protocols.SetHTTP1(!h2c)
	t.Protocols.SetUnencryptedHTTP2(h2c)
	return t
}

// accept tells Knative that an Ingress is served: what the proxy looks up are the objects themselves, so that it is as
// soon as this program has seen it.
func accept(ctx context.Context, client versioned.Interface, object any) {
	seen, is := object.(*v1alpha1.Ingress)
	if !is || seen.Annotations[networking.IngressClassAnnotationKey] != class {
		return
	}
	changed := seen.DeepCopy()
	changed.Status.InitializeConditions()
	changed.Status.MarkNetworkConfigured()
	balancer := []v1alpha1.LoadBalancerIngressStatus{{DomainInternal: domain}}
	changed.Status.MarkLoadBalancerReady(balancer, balancer)
	changed.Status.ObservedGeneration = seen.Generation
	if equality.Semantic.DeepEqual(seen.Status, changed.Status) {
		return
	}
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := client.NetworkingV1alpha1().Ingresses(seen.Namespace).UpdateStatus(within, changed, metav1.UpdateOptions{})
	if err != nil {
		// The next change of the object brings it here again.
		log.Printf("status of %s/%s: %v", seen.Namespace, seen.Name, err)
	}
}

type proxy struct {
	ingresses  listers.IngressLister
	services   corev1listers.ServiceLister
	endpoints  corev1listers.EndpointsLister
	plain, h2c *http.Transport
}

func (p *proxy) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	all, err := p.ingresses.List(labels.Everything())
	if err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	found, split := route(all, request, rand.IntN(100))
	if split == nil {
		http.Error(answer, "no route for "+request.Host+request.URL.Path, http.StatusNotFound)
		return
	}
	address, h2c, err := p.backend(split.IngressBackend)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusServiceUnavailable)
		return
	}
	through := p.plain
	if h2c {
		through = p.h2c
	}
	(&httputil.ReverseProxy{
		Transport: through,
		// Streams are handed on as they come.
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.SetXForwarded()
			r.Out.Host = r.In.Host
			if found.RewriteHost != "" {
				r.Out.Host = found.RewriteHost
			}
			for _, headers := range []map[string]string{found.AppendHeaders, split.AppendHeaders} {
				for name, value := range headers {
					r.Out.Header.Set(name, value)
				}
			}
		},
		ErrorHandler: func(answer http.ResponseWriter, request *http.Request, err error) {
			log.Printf("%s by %s: %v", request.URL.Path, address, err)
			http.Error(answer, err.Error(), http.StatusBadGateway)
		},
	}).ServeHTTP(answer, request)
}

// backend is an address behind a service: one of its endpoints, since the proxies of nodes know connections and no
// requests. Whether it speaks h2c is said by the name of the port.
func (p *proxy) backend(to v1alpha1.IngressBackend) (address string, h2c bool, err error) {
	service, err := p.services.Services(to.ServiceNamespace).Get(to.ServiceName)
	if err != nil {
		return "", false, err
	}
	endpoints, err := p.endpoints.Endpoints(to.ServiceNamespace).Get(to.ServiceName)
	if err != nil {
		return "", false, err
	}
	return choose(service, endpoints, to, rand.IntN(1<<20))
}

func choose(service *corev1.Service, endpoints *corev1.Endpoints, to v1alpha1.IngressBackend, turn int) (string, bool, error) {
	for _, port := range service.Spec.Ports {
		if wanted := intstr.FromInt32(port.Port); to.ServicePort != wanted && to.ServicePort != intstr.FromString(port.Name) {
			continue
		}
		var all []string
		for _, subset := range endpoints.Subsets {
			for _, one := range subset.Ports {
				if one.Name != port.Name {
					continue
				}
				for _, pod := range subset.Addresses {
					all = append(all, net.JoinHostPort(pod.IP, strconv.Itoa(int(one.Port))))
				}
			}
		}
		if len(all) == 0 {
			return "", false, errors.New("no endpoint of " + service.Name + " is ready")
		}
		return all[turn%len(all)], port.Name == string(networking.ServicePortNameH2C), nil
	}
	return "", false, errors.New(service.Name + " has no port " + to.ServicePort.String())
}
