package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
)

// strategies are how the API server creates the kinds of its own.
var strategies = map[string]rest.RESTCreateStrategy{
	"apps/v1/Deployment":                     deployment.Strategy,
	"autoscaling/v2/HorizontalPodAutoscaler": horizontalpodautoscaler.Strategy,
	"batch/v1/Job":                           job.Strategy,
	"policy/v1/PodDisruptionBudget":          poddisruptionbudget.Strategy,
	"v1/Service":                             service.Strategy,
}

// checkNative does what the API server does when an object of one of its own kinds is created: reads it strictly, sets
// defaults, and has the kind's own strategy prepare and validate it. Nothing is stored, and no cluster decides anything.
func checkNative(strategy rest.RESTCreateStrategy, asJSON []byte) error {
	strict := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict)
	object, _, err := strict.UniversalDeserializer().Decode(asJSON, nil, nil)
	if err != nil {
		return err
	}
	legacyscheme.Scheme.Default(object)
	group := object.GetObjectKind().GroupVersionKind().Group
	internal, err := legacyscheme.Scheme.ConvertToVersion(object,
		schema.GroupVersion{Group: group, Version: runtime.APIVersionInternal})
	if err != nil {
		return err
	}
	about, err := meta.Accessor(internal)
	if err != nil {
		return err
	}
	// As kubectl does.
	if about.GetNamespace() == "" {
		about.SetNamespace("default")
	}
	rest.FillObjectMetaSystemFields(about)
	ctx := genericapirequest.WithNamespace(genericapirequest.NewContext(), about.GetNamespace())
	if err := rest.BeforeCreate(strategy, ctx, internal); err != nil {
		return err
	}
	return nil
}

// documents takes a file of several documents apart.
func documents(text []byte) [][]byte {
	var found [][]byte
	for _, document := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		if hasContent(document) {
			found = append(found, document)
		}
	}
	return found
}

func hasContent(document []byte) bool {
	for _, line := range strings.Split(string(document), "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}

// selected refuses a workload whose pods its own Service, budget or monitor would not find: each is valid alone.
func selected(objects []map[string]any) error {
	var pods map[string]any
	for _, object := range objects {
		if object["kind"] == "Deployment" {
			pods, _ = at(object, "spec", "template", "metadata", "labels").(map[string]any)
		}
	}
	if pods == nil {
		return nil
	}
	for _, object := range objects {
		selector, _ := at(object, "spec", "selector").(map[string]any)
		if labels, isNested := selector["matchLabels"].(map[string]any); isNested {
			selector = labels
		}
		for name, value := range selector {
			if pods[name] != value {
				return fmt.Errorf("the %v selects %s=%v, which the Deployment's pods do not have", object["kind"], name, value)
			}
		}
	}
	return nil
}

// at follows names into an object; nil where there is nothing.
func at(object map[string]any, names ...string) any {
	var found any = object
	for _, name := range names {
		fields, isObject := found.(map[string]any)
		if !isObject {
			return nil
		}
		found = fields[name]
	}
	return found
}

func parsed(asJSON []byte) (map[string]any, error) {
	var object map[string]any
	return object, json.Unmarshal(asJSON, &object)
}
