package main

// Which backend a request goes to, by Knative's Ingress objects alone.

import (
	"net"
	"net/http"
	"strings"

	"knative.dev/networking/pkg/apis/networking"
	"knative.dev/networking/pkg/apis/networking/v1alpha1"
)

// route is the path of an Ingress that fits a request best, and of its splits the one on which the draw (0 to 99) falls.
// The longest path goes first, among those the one that asks for most headers.
func route(all []*v1alpha1.Ingress, request *http.Request, draw int) (found *v1alpha1.HTTPIngressPath, split *v1alpha1.IngressBackendSplit) {
	host := request.Host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	for _, ingress := range all {
		if ingress.Annotations[networking.IngressClassAnnotationKey] != class {
			continue
		}
		for _, rule := range ingress.Spec.Rules {
			if rule.HTTP == nil || !holds(rule.Hosts, host) {
				continue
			}
			for i := range rule.HTTP.Paths {
				path := &rule.HTTP.Paths[i]
				if strings.HasPrefix(request.URL.Path, path.Path) && match(path.Headers, request.Header) && better(path, found) {
					found = path
				}
			}
		}
	}
	if found == nil {
		return nil, nil
	}
	for i := range found.Splits {
		// A split that does not say is all.
		share := found.Splits[i].Percent
		if share == 0 && len(found.Splits) == 1 {
			share = 100
		}
		if draw -= share; draw < 0 {
			return found, &found.Splits[i]
		}
	}
	return nil, nil
}

func holds(hosts []string, wanted string) bool {
	for _, host := range hosts {
		if strings.EqualFold(host, wanted) {
			return true
		}
	}
	return false
}

func match(wanted map[string]v1alpha1.HeaderMatch, headers http.Header) bool {
	for name, value := range wanted {
		if headers.Get(name) != value.Exact {
			return false
		}
	}
	return true
}

func better(path, than *v1alpha1.HTTPIngressPath) bool {
	if than == nil || len(path.Path) != len(than.Path) {
		return than == nil || len(path.Path) > len(than.Path)
	}
	return len(path.Headers) > len(than.Headers)
}
