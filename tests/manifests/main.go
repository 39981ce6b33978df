// Checks manifests as a cluster would: against the schemas of the custom resources, unknown fields as errors, and for
// Knative Services by the code of Knative's own webhook. Prints "ok FILE" for each file, and fails at the first that is
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
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// module is where schemas are from: a version and its checksum, as go.sum would have it.
type module struct{ path, version, sum string }

var (
	knative   = module{"knative.dev/serving", "v0.50.0", ""} // its checksum is in go.sum
	kserve    = module{"github.com/kserve/kserve", "v0.20.0", "h1:Bs7HxmGV4KFqqptDcWseKv+mwD4YOYHJWcuVgPG2Gug="}
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
	// Also refuses keys that are given twice.
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	var object map[string]any
	if err := json.Unmarshal(asJSON, &object); err != nil {
		return err
	}
	kind := fmt.Sprintf("%v/%v", object["apiVersion"], object["kind"])
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
		return err
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
	ctx := apis.WithinCreate(context.Background())
	service.SetDefaults(ctx)
	if err := service.Validate(ctx); err != nil {
		return err
	}
	return nil
}

// checkContainer reads what v1alpha1 leaves undescribed.
func checkContainer(object map[string]any) error {
	at := any(object)
	for _, name := range []string{"spec", "default", "custom", "container"} {
		fields, isObject := at.(map[string]any)
		if !isObject {
			return fmt.Errorf("there is no object above '%s'", name)
		}
		at = fields[name]
	}
	text, err := json.Marshal(at)
	if err != nil {
		return err
	}
	var container corev1.Container
	return yaml.UnmarshalStrict(text, &container)
}
