package knative

// docs/autoscaling.md: its commands are run from it, so that the page says what happens here.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const document = "../../docs/autoscaling.md"

// What the blocks that begin so need is a cluster: tests/cluster runs them.
const clusterOnly = "cluster-"

var fence = regexp.MustCompile("(?ms)^```([a-z]+) ([a-z0-9-]+)\n(.*?)^```$")

// block answers what the document has between the fences of this language and name.
func block(t *testing.T, language, name string) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		if found[1] == language && found[2] == name {
			return found[3]
		}
	}
	t.Fatalf("%s has no block of %s that is called %s", document, language, name)
	return ""
}

// reader is where somebody reads the document: a folder with the clone's files and corymb on the path.
type reader struct {
	t      *testing.T
	folder string
	// address is of the ingress, once there is one.
	address string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("skipped: curl is not on the path, which the document's commands call")
	}
	r := &reader{t: t, folder: t.TempDir()}
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(deploy, filepath.Join(r.folder, "deploy")); err != nil {
		t.Fatal(err)
	}
	return r
}

// run gives commands to a shell as the reader would, and answers what they print.
func (r *reader) run(ctx context.Context, commands string) (string, error) {
	host, port, _ := strings.Cut(r.address, ":")
	command := exec.Command("sh", "-euc", commands)
	command.Dir = r.folder
	command.Env = append(os.Environ(), "PATH="+filepath.Dir(corymb(r.t))+":"+os.Getenv("PATH"), "MODEL=gs://my-bucket/flowers",
		"SERVICE_HOSTNAME=flowers-sample.default.example.com", "INGRESS_HOST="+host, "INGRESS_PORT="+port)
	out := &bytes.Buffer{}
	command.Stdout, command.Stderr = out, out
	if err := spawn(command); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { end(command) })
	defer stop()
	inTime := ended(command, 2*limit)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if !inTime || command.ProcessState.ExitCode() != 0 {
		return "", fmt.Errorf("%s\nended with %v\n%s", commands, command.ProcessState, out)
	}
	return out.String(), nil
}

// autoscaling is what KServe makes of an InferenceService for Knative's autoscaler.
func (r *reader) autoscaling(manifest string) (annotations map[string]string, maxScale int) {
	r.t.Helper()
	if _, err := r.run(r.t.Context(), block(r.t, "sh", manifest)); err != nil {
		r.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(r.folder, "flowers-sample.yaml"))
	if err != nil {
		r.t.Fatal(err)
	}
	var service struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			Predictor struct {
				MinReplicas int    `json:"minReplicas"`
				MaxReplicas int    `json:"maxReplicas"`
				ScaleMetric string `json:"scaleMetric"`
				ScaleTarget int    `json:"scaleTarget"`
			} `json:"predictor"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &service); err != nil {
		r.t.Fatal(err)
	}
	predictor := service.Spec.Predictor
	if predictor.ScaleMetric != "concurrency" || predictor.MinReplicas != 0 {
		r.t.Fatalf("%s: expected a service that is scaled on concurrency, from zero:\n%s", manifest, text)
	}
	annotations = map[string]string{"target": strconv.Itoa(predictor.ScaleTarget)}
	for name, value := range service.Metadata.Annotations {
		if short, is := strings.CutPrefix(name, "autoscaling.knative.dev/"); is {
			annotations[short] = value
		}
	}
	return annotations, predictor.MaxReplicas
}

// request has the document's request file written; another one takes its place where a flag names it.
func (r *reader) request() {
	r.t.Helper()
	if _, err := r.run(r.t.Context(), block(r.t, "sh", "request")); err != nil {
		r.t.Fatal(err)
	}
	if *pageRequest == "" {
		return
	}
	content, err := os.ReadFile(*pageRequest)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.folder, "input.json"), content, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// TestEveryCommandOfTheDocumentIsRun by the page, or needs a cluster; and what it shows is what they print.
func TestEveryCommandOfTheDocumentIsRun(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		if found[1] == "sh" && !strings.HasPrefix(found[2], clusterOnly) {
			commands = append(commands, found[2])
		}
	}
	known := []string{"request", "predict"}
	for _, e := range pageExperiments() {
		known = append(known, e.manifest, e.load)
	}
	slices.Sort(known)
	slices.Sort(commands)
	if known = slices.Compact(known); !slices.Equal(commands, known) {
		t.Errorf("the document's commands are %v; run are %v", commands, known)
	}
	inCluster, err := os.ReadFile("../cluster/steps/page.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		// Names of blocks are arguments there.
		if found[1] == "sh" && !slices.Contains(strings.Fields(string(inCluster)), found[2]) {
			t.Errorf("tests/cluster does not run the block %s", found[2])
		}
	}
	if unnamed := regexp.MustCompile("(?m)^```sh$").FindString(string(text)); unnamed != "" {
		t.Error("a block of commands without a name is run by nobody")
	}
	for _, name := range []string{"tests/knative/page.sh", "tests/cluster/up.sh"} {
		if !bytes.Contains(text, []byte(name)) {
			t.Errorf("the document does not say that %s runs its commands", name)
		}
	}

	r := newReader(t)
	r.autoscaling("manifest")
	printed, err := os.ReadFile(filepath.Join(r.folder, "flowers-sample.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(`(?m)^ *#.*\n`)
	if shown := block(t, "yaml", "manifest"); shown != comment.ReplaceAllString(string(printed), "") {
		t.Errorf("the document shows\n%s\ncorymb prints\n%s", shown, printed)
	}
}

// figures are what the page writes into the document, between these lines.
var figures = regexp.MustCompile(`(?s)(<!-- figures:[^>]*-->\n).*?(<!-- end of the figures -->)`)

// unseen are lines of the grid that are white on white: two thirds of a picture.
var unseen = regexp.MustCompile(`(?m)^<line [^>]*stroke="#FFFFFF"[^>]*/>\n`)

// updateDocument puts the tables and the pictures of a run into the document.
func updateDocument(t *testing.T, tables, folder string, experiments []experiment) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !figures.Match(text) {
		t.Fatalf("%s has no place for figures", document)
	}
	updated := figures.ReplaceAllFunc(text, func(found []byte) []byte {
		parts := figures.FindSubmatch(found)
		return slices.Concat(parts[1], []byte(tables), parts[2])
	})
	if err := os.WriteFile(document, updated, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, e := range experiments {
		picture, err := os.ReadFile(filepath.Join(folder, e.file+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		picture = unseen.ReplaceAll(picture, nil)
		if err := os.WriteFile(filepath.Join(filepath.Dir(document), "autoscaling-"+e.file+".svg"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
