// Checks manifests as a cluster would: Kubernetes' own kinds by the code of its API server, custom resources against their
// schemas, unknown fields as errors, and Knative Services by the code of Knative's own webhook. Prints "ok FILE" for each file, and fails at the first that is
// not.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/config"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// module is where schemas are from: a version and its checksum, as go.sum would have it.
type module struct{ path, version, sum string }

var (
	knative   = module{"knative.dev/serving", "v0.50.0", ""} // its checksum is in go.sum
	kserve    = module{"github.com/kserve/kserve", "v0.20.0", "h1:Bs7HxmGV4KFqqptDcWseKv+mwD4YOYHJWcuVgPG2Gug="}
	keda      = module{"github.com/kedacore/keda/v2", "v2.20.2", "h1:SR60v8uIcelbveS8n/1jcl8tLdBBIbHMxmdOHw8tKqA="}
	operator  = module{"github.com/prometheus-operator/prometheus-operator", "v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="}
	kfserving = module{"github.com/kubeflow/kfserving", "v0.3.0", "h1:sZroVIKXyX+Exx8/HWggSgEB2Qx8oHQkPOeBJrIHajY="}
)

// kinds says for each kind which file of which module has its schema.
var kinds = map[string]struct {
	module module
	file   string
}{
	"serving.knative.dev/v1/Service":                   {knative, "config/core/300-resources/service.yaml"},
	"serving.kserve.io/v1alpha1/ClusterServingRuntime": {kserve, "config/crd/full/serving.kserve.io_clusterservingruntimes.yaml"},
	"serving.kserve.io/v1beta1/InferenceService":       {kserve, "config/crd/full/serving.kserve.io_inferenceservices.yaml"},
	"serving.kubeflow.org/v1alpha1/KFService":          {kfserving, "install/0.1.0/kfserving.yaml"},
	"keda.sh/v1alpha1/ScaledObject":                    {keda, "config/crd/bases/keda.sh_scaledobjects.yaml"},
	"monitoring.coreos.com/v1/PodMonitor":              {operator, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"},
	"monitoring.coreos.com/v1/PrometheusRule":          {operator, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"},
}

func main() {
	for _, file := range os.Args[1:] {
		if err := check(file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
		fmt.Println("ok", file)
	}
}

func check(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var objects []map[string]any
	for _, document := range documents(text) {
		object, err := checkDocument(document)
		if err != nil {
			return err
		}
		objects = append(objects, object)
	}
	if len(objects) == 0 {
		return fmt.Errorf("there is no document in it")
	}
	return selected(objects)
}

// checkDocument checks one document of a file, and returns its object.
func checkDocument(text []byte) (map[string]any, error) {
	// Also refuses keys that are given twice.
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	object, err := parsed(asJSON)
	if err != nil {
		return nil, err
	}
	kind := fmt.Sprintf("%v/%v", object["apiVersion"], object["kind"])
	if strategy, isNative := strategies[kind]; isNative {
		if err := checkNative(strategy, asJSON); err != nil {
			return nil, fmt.Errorf("%v: %w", object["kind"], err)
		}
		return object, nil
	}
	return object, checkCustom(kind, object, asJSON)
}

// checkCustom applies the schema of a custom resource, and what its webhook checks besides.
func checkCustom(kind string, object map[string]any, asJSON []byte) error {
	home, known := kinds[kind]
	if !known {
		return fmt.Errorf("no schema is known for %s", kind)
	}
	folder, err := home.module.download()
	if err != nil {
		return err
	}
	schema, err := schemaOf(filepath.Join(folder, home.file), fmt.Sprint(object["kind"]), fmt.Sprint(object["apiVersion"]))
	if err != nil {
		return err
	}
	if err := checkSchema(schema, object); err != nil {
		return fmt.Errorf("%v: %w", object["kind"], err)
	}
	switch object["kind"] {
	case "Service":
		return checkService(asJSON)
	case "KFService":
		return checkContainer(object)
	}
	return nil
}

// download returns the folder of a module's files, from the module cache where it is there.
func (m module) download() (string, error) {
	command := exec.Command("go", "mod", "download", "-json", m.path+"@"+m.version)
	// Outside of this module, whose requirements do not concern it.
	command.Dir = os.TempDir()
	output, err := command.Output()
	var found struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(output, &found); jsonErr != nil || found.Error != "" || err != nil {
		return "", fmt.Errorf("download %s@%s: %v %s", m.path, m.version, err, found.Error)
	}
	if m.sum != "" && found.Sum != m.sum {
		return "", fmt.Errorf("%s@%s has the checksum %s; expected %s", m.path, m.version, found.Sum, m.sum)
	}
	return found.Dir, nil
}

// schemaOf finds the schema of one version in a file of custom resource definitions.
func schemaOf(file, kind, apiVersion string) (*apiextensions.JSONSchemaProps, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	version := apiVersion[strings.LastIndex(apiVersion, "/")+1:]
	for _, document := range bytes.Split(text, []byte("\n---")) {
		var head struct{ APIVersion, Kind string }
		if yaml.Unmarshal(document, &head) != nil || head.Kind != "CustomResourceDefinition" {
			continue
		}
		crd := &apiextensions.CustomResourceDefinition{}
		if head.APIVersion == "apiextensions.k8s.io/v1beta1" {
			var old apiextensionsv1beta1.CustomResourceDefinition
			if err := yaml.Unmarshal(document, &old); err != nil {
				return nil, err
			}
			apiextensionsv1beta1.SetDefaults_CustomResourceDefinitionSpec(&old.Spec)
			err = apiextensionsv1beta1.Convert_v1beta1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&old, crd, nil)
		} else {
			var now apiextensionsv1.CustomResourceDefinition
			if err := yaml.Unmarshal(document, &now); err != nil {
				return nil, err
			}
			err = apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&now, crd, nil)
		}
		if err != nil {
			return nil, err
		}
		if crd.Spec.Names.Kind != kind {
			continue
		}
		schema := crd.Spec.Validation
		for _, known := range crd.Spec.Versions {
			if known.Name == version && known.Schema != nil {
				schema = known.Schema
			}
		}
		if schema == nil || schema.OpenAPIV3Schema == nil {
			return nil, fmt.Errorf("%s has no schema for %s", file, version)
		}
		return schema.OpenAPIV3Schema, nil
	}
	return nil, fmt.Errorf("%s does not define %s", file, kind)
}

// checkSchema applies a schema, and refuses fields that it does not have.
func checkSchema(schema *apiextensions.JSONSchemaProps, object map[string]any) error {
	// Definitions of v1beta1 leave the type of the root out.
	schema.Type = "object"
	structural, err := structuralschema.NewStructural(schema)
	if err != nil {
		return err
	}
	keepUndescribed(structural, true)
	unknown := pruning.PruneWithOptions(object, structural, true,
		structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("unknown fields: %s", strings.Join(unknown, ", "))
	}
	validator, _, err := validation.NewSchemaValidator(schema)
	if err != nil {
		return err
	}
	return validation.ValidateCustomResource(nil, object, validator).ToAggregate()
}

// keepUndescribed lets objects be whose fields a schema does not describe: checkContainer looks at the one there is.
func keepUndescribed(schema *structuralschema.Structural, isRoot bool) {
	if !isRoot && schema.Type == "object" && len(schema.Properties) == 0 && schema.AdditionalProperties == nil {
		schema.XPreserveUnknownFields = true
	}
	for name, property := range schema.Properties {
		keepUndescribed(&property, false)
		schema.Properties[name] = property
	}
	if schema.Items != nil {
		keepUndescribed(schema.Items, false)
	}
}

// checkService does what Knative's webhook does when a Service is created.
func checkService(text []byte) error {
	var service servingv1.Service
	if err := yaml.UnmarshalStrict(text, &service); err != nil {
		return err
	}
	// What deploy/knative says has to be enabled for a claim.
	features, err := config.NewFeaturesConfigFromMap(map[string]string{
		config.FeaturePodSpecPVClaim:                 string(config.Enabled),
		"kubernetes.podspec-persistent-volume-write": string(config.Enabled),
	})
	if err != nil {
		return err
	}
	ctx := apis.WithinCreate(context.Background())
	settings := config.FromContextOrDefaults(ctx)
	settings.Features = features
	ctx = config.ToContext(ctx, settings)
	service.SetDefaults(ctx)
	if err := service.Validate(ctx); err != nil {
		return err
	}
	return nil
}

// checkContainer reads what v1alpha1 leaves undescribed.
func checkContainer(object map[string]any) error {
	found := at(object, "spec", "default", "custom", "container")
	if found == nil {
		return fmt.Errorf("there is no container in it")
	}
	text, err := json.Marshal(found)
	if err != nil {
		return err
	}
	var container corev1.Container
	return yaml.UnmarshalStrict(text, &container)
}
