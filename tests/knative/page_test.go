package knative

// KFServing's page on autoscaling, as one command: hey as the page runs it, Knative's own code, real servers; what comes
// of it beside the page's numbers. `just seed` is this test.

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	pageFolder  = flag.String("page", "", "run KFServing's page on autoscaling, which takes seven minutes, and write what it shows to this folder")
	pageRequest = flag.String("request", "", "the request file; without one, that of docs/autoscaling.md")
	pageUpdate  = flag.Bool("update", false, "with -page: write the tables and the pictures into docs/ too")
)

// The page's numbers: recorded in June 2019 with Knative 0.7.1 and TensorFlow Serving in a cluster.
var (
	page5 = heard{statuses: map[int]int{200: 4126}, rate: 137.4449, average: 36400 * time.Microsecond,
		median: 19900 * time.Microsecond, ninetyNine: 150100 * time.Microsecond, slowest: 10145800 * time.Microsecond}
	page50 = heard{statuses: map[int]int{200: 20525}, rate: 683.5644, average: 73100 * time.Microsecond,
		median: 40800 * time.Microsecond, ninetyNine: 133400 * time.Microsecond, slowest: 10811300 * time.Microsecond}
)

// experiment is hey at a service that has no pod yet.
type experiment struct {
	name, file string
	// manifest and load are blocks of the document.
	manifest, load string
	// toZero goes on until the last pod is gone.
	toZero bool
	// queueProxy stands before the server in each pod.
	queueProxy bool
}

// pageExperiments are the page's.
func pageExperiments() []experiment {
	return []experiment{
		{name: "target 1, today's defaults", file: "c5-target1", manifest: "manifest", load: "load-5", toZero: true},
		{name: "target 1, 100 % as in 2019", file: "c5-target1-100", manifest: "manifest-100", load: "load-5"},
		{name: "target 10, today's defaults", file: "q50-target10", manifest: "manifest-10", load: "load-50"},
	}
}

// shown is what came of an experiment.
type shown struct {
	heard
	moments []moment
	// firstReady is from the first request to the first pod.
	firstReady time.Duration
	panicked   int // seconds in panic mode
	most       moment
	stable     float64 // the most that the stable window saw
	wantsNone  time.Duration
	gone       time.Duration
	direct     bool // the activator was out of the path at some time
}

// run bounds itself: hey by its own flag, the way to zero by four minutes.
//
// changed makes a test's settings of the document's: its annotations and its load.
func (e experiment) run(t *testing.T, ctx context.Context, folder string, changed func(annotations map[string]string, load string) string) shown {
	t.Helper()
	needHey(t)
	r := newReader(t)
	r.request()
	annotations, most := r.autoscaling(e.manifest)
	load := changed(annotations, block(t, "sh", e.load))
	var pod runner = newBare(t)
	if e.queueProxy {
		pod = newSidecar(t, httpProbe)
	}
	s := startService(t, options{annotations: annotations, maxScale: most, runner: pod, fromZero: true})
	r.address = s.activator
	var result shown
	watched := watch(s)
	begin := time.Now()
	first := make(chan time.Duration, 1)
	go func() {
		_ = until(func() bool { return len(s.pods.ready()) > 0 })
		first <- time.Since(begin)
	}()
	var err error
	if result.heard, err = runHey(ctx, r, load); ctx.Err() != nil {
		t.Fatal("interrupted")
	} else if err != nil {
		t.Fatal(err)
	}
	loadEnd := time.Now()
	result.firstReady = <-first
	for end := loadEnd.Add(4 * time.Minute); e.toZero && time.Now().Before(end) && s.pods.count() > 0; {
		if pause(ctx, 100*time.Millisecond) != nil {
			break
		}
		decisions := s.scaler.since(loadEnd)
		if len(decisions) > 0 && decisions[len(decisions)-1].desired == 0 && result.wantsNone == 0 {
			result.wantsNone = time.Since(loadEnd)
		}
	}
	if e.toZero && s.pods.count() == 0 {
		result.gone = time.Since(loadEnd)
	}
	// The last moments in the picture.
	if err := pause(ctx, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	result.moments = watched.stop()
	for _, one := range result.moments {
		result.most.desired, result.most.ready = max(result.most.desired, one.desired), max(result.most.ready, one.ready)
		result.stable = math.Max(result.stable, one.stable)
		if one.panicking {
			result.panicked++
		}
	}
	for _, one := range s.scaler.since(begin) {
		result.direct = result.direct || one.burst >= 0
	}
	name := filepath.Join(folder, e.file)
	draw(t, fmt.Sprintf("hey %s, %s", flags(load), e.name), name, result.moments)
	if err := os.WriteFile(name+".txt", []byte(result.text), 0o644); err != nil {
		t.Fatal(err)
	}
	return result
}

// ownNetworks is whether this process may give its children networks of their own.
func ownNetworks() bool {
	command := exec.Command("true")
	command.SysProcAttr = ownNetwork()
	return command.Run() == nil
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}

func flags(load string) string {
	if found := heyFlags.FindStringSubmatch(load); found != nil {
		return found[1]
	}
	return load
}

// TestHeyFromZero is the page in small.
func TestHeyFromZero(t *testing.T) {
	text, _ := window(t)
	folder := t.TempDir()
	result := experiment{name: "a short window", file: "short", manifest: "manifest", load: "load-5"}.run(t, t.Context(), folder,
		func(annotations map[string]string, load string) string {
			annotations["window"] = text
			return strings.Replace(load, "-z 30s", "-z 8s", 1)
		})
	if !strings.Contains(result.command, "-z 8s -c 5 ") {
		t.Errorf("the document's load should be that of the page: %s", result.command)
	}
	if !result.all200() {
		t.Errorf("a request was lost:\n%s", result.text)
	}
	if result.most.ready < 2 || result.panicked == 0 {
		t.Errorf("5 in flight at target 1 should panic and have more than one pod: %s", changes(result.moments))
	}
	if result.direct {
		t.Error("with the default burst capacity the activator stays in the path")
	}
	for _, ending := range []string{".csv", ".svg", ".png", ".txt"} {
		if info, err := os.Stat(filepath.Join(folder, "short"+ending)); err != nil || info.Size() == 0 {
			t.Errorf("short%s: %v", ending, err)
		}
	}
	row("hey -c 5 from zero, target 1, every default but the window", "all 200, up to 8 replicas",
		fmt.Sprintf("%s, %d replicas ready, longest %d ms", result.outcome(), result.most.ready, result.slowest.Milliseconds()))
}

// firstRequest sends the document's request to a service without a pod, and answers what it prints.
func firstRequest(t *testing.T, ctx context.Context) string {
	t.Helper()
	r := newReader(t)
	r.request()
	annotations, most := r.autoscaling("manifest")
	s := startService(t, options{annotations: annotations, maxScale: most, runner: newBare(t), fromZero: true})
	r.address = s.activator
	text, err := r.run(ctx, block(t, "sh", "predict"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheDocumentsRequestIsAnswered(t *testing.T) {
	type answer struct {
		Predictions []struct {
			Scores     []float64
			Prediction int
			Key        string
		}
	}
	var seen, shown answer
	text := firstRequest(t, t.Context())
	if err := json.Unmarshal([]byte(text), &seen); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := json.Unmarshal([]byte(block(t, "json", "answer")), &shown); err != nil {
		t.Fatal(err)
	}
	if len(seen.Predictions) != 1 || len(shown.Predictions) != 1 {
		t.Fatalf("one picture, one prediction: %s", text)
	}
	one, other := seen.Predictions[0], shown.Predictions[0]
	if one.Prediction != other.Prediction || one.Key != other.Key || len(one.Scores) != len(other.Scores) {
		t.Errorf("the document shows %+v; the answer is %+v", other, one)
	}
}

// TestPage is the page itself.
func TestPage(t *testing.T) {
	if *pageFolder == "" {
		t.Skip("skipped: without -page FOLDER; `just seed` runs it")
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends this process at once, and the kernel its children.
	context.AfterFunc(ctx, stop)
	folder, err := filepath.Abs(*pageFolder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if *pageRequest != "" {
		if info, err := os.Stat(*pageRequest); err != nil || !info.Mode().IsRegular() {
			t.Fatalf("%s cannot be read", *pageRequest)
		}
	}
	fmt.Printf("\n== the first request, from zero\n%s\n", firstRequest(t, ctx))
	experiments := pageExperiments()
	hasNetworks := ownNetworks()
	for i := range experiments {
		experiments[i].queueProxy = hasNetworks
	}
	results := make([]shown, len(experiments))
	for i, e := range experiments {
		// One after the other, each with its pods gone before the next: they share the machine.
		done := t.Run(e.file, func(t *testing.T) {
			fmt.Printf("\n== %s, from zero\n", e.name)
			results[i] = e.run(t, ctx, folder, func(_ map[string]string, load string) string { return load })
			fmt.Printf("%s\n%s\n%s", results[i].command, results[i].text, changes(results[i].moments))
			if !results[i].all200() {
				t.Errorf("a request was lost: %s", results[i].outcome())
			}
		})
		if !done && results[i].command == "" {
			t.FailNow()
		}
	}

	// What cannot be run here is run in virtual time, by the same code of Knative's.
	today := replay(t, map[string]string{"target": "1"}, nil, steady(50, 30), 1)
	then := replay(t, map[string]string{"target": "1", "target-utilization-percentage": "100"},
		map[string]string{"max-scale-up-rate": "10"}, steady(50, 30), 10)

	tables := tables(results[0], results[1], results[2], today, then)
	text := report(tables, hasNetworks, results[0], results[1], results[2], today, then)
	fmt.Printf("\n%s\nWritten to %s: report.md, and for each run .svg, .png, .csv and hey's summary in .txt\n", text, folder)
	if err := os.WriteFile(filepath.Join(folder, "report.md"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if *pageUpdate {
		updateDocument(t, tables, folder, experiments)
	}
}

func milliseconds(length time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(length.Microseconds())/1000)
}

func seconds(length time.Duration) string {
	if length == 0 {
		return "not seen"
	}
	return fmt.Sprintf("%.0f s", length.Seconds())
}

func (h heard) rows() [][2]string {
	return [][2]string{
		{"answers", h.outcome()},
		{"answers a second", fmt.Sprintf("%.1f", h.rate)},
		{"mean", milliseconds(h.average)},
		{"median", milliseconds(h.median)},
		{"99 %", milliseconds(h.ninetyNine)},
		{"longest", milliseconds(h.slowest)},
	}
}

// markdown aligns a table for the terminal too.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	text := &strings.Builder{}
	for number, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(text, "| %-*s ", widths[i], cell)
		}
		text.WriteString("|\n")
		if number == 0 {
			for _, width := range widths {
				text.WriteString("|" + strings.Repeat("-", width+2))
			}
			text.WriteString("|\n")
		}
	}
	return text.String()
}

// tables are the page's numbers beside those of here.
func tables(defaults, hundred, ten shown, today, then []int32) string {
	count := func(value any) string { return fmt.Sprint(value) }
	first := [][]string{
		{"hey -z 30s -c 5, from zero", "the page, 2019", "here, target 1, today's defaults", "here, target 1, 100 %"},
		{"replicas wanted, the most", "5", count(defaults.most.desired), count(hundred.most.desired)},
		{"replicas ready, the most", "5", count(defaults.most.ready), count(hundred.most.ready)},
		{"stable concurrency, the most", "4.7", fmt.Sprintf("%.1f", defaults.stable), fmt.Sprintf("%.1f", hundred.stable)},
	}
	for i, row := range page5.rows() {
		first = append(first, []string{row[0], row[1], defaults.rows()[i][1], hundred.rows()[i][1]})
	}
	first = append(first,
		[]string{"first pod ready after", "about 10 s", milliseconds(defaults.firstReady), milliseconds(hundred.firstReady)},
		[]string{"panic mode", "60 s", fmt.Sprintf("%d s", defaults.panicked), fmt.Sprintf("at least %d s, not watched on", hundred.panicked)},
		[]string{"after the load none wanted", "about 60 s", seconds(defaults.wantsNone), "not watched"},
		[]string{"after the load no pod left", "not shown", seconds(defaults.gone), "not watched"},
	)
	second := [][]string{
		{"hey -z 30s -q 50 (50 workers), from zero", "the page, 2019", "target 1, in virtual time", "here, target 10, today's defaults"},
		{"replicas wanted, the most", "10 (11 in its picture)", fmt.Sprintf("%d; with 2019's settings %d at first, then %d", top(today), then[0], top(then)), count(ten.most.desired)},
		{"replicas ready, the most", "11", "72 pods do not fit here", count(ten.most.ready)},
	}
	for i, row := range page50.rows() {
		second = append(second, []string{row[0], row[1], "", ten.rows()[i][1]})
	}
	second = append(second, []string{"first pod ready after", "about 10 s", "", milliseconds(ten.firstReady)})
	return markdown(first) + "\n" + markdown(second)
}

func report(tables string, queueProxy bool, defaults, hundred, ten shown, today, then []int32) string {
	return fmt.Sprintf(`# KFServing's page on autoscaling, run here

The commands are those of docs/autoscaling.md. The activator, the collector and the scaler are Knative's own code, every
setting is its default where nothing else is said; pods are processes of corymb on loopback addresses, and hey shares
their %d cores.

%s
Why the numbers are not the page's:

* %d replicas, not 5: since Knative 0.8 a pod is filled to 70 %% of its target only, so %.2f in flight at target 1 are
  ceil(%.2f / 0.7). At 100 %%, as in 2019 and in the last column, they are ceil(%.2f). A request is not in flight while hey
  reads its answer and sends the next: five callers are a little less than five.
* 10 replicas were not 50 requests a second: hey counts -q for each of its 50 workers, which had 683.6/s x 0.0731 s = 50 in
  flight. 2019's max-scale-up-rate of 10 allowed %d pods from the first one, and their start took 10 of the 30 s; today's
  is 1000, and 50 in flight at 70 %% are %d pods at once. At the page's other target, 10, they are ceil(50 / 7) = 8.
* The longest request: in 2019 the first requests waited about 10 s for an image, a model from a store and TensorFlow. Here
  an image is not pulled, no node is chosen, and the model is in the binary: %s to the first pod.
* Answers a second: the page had a pod on its own cores for each replica. Here hey, the activator, the autoscaler and all pods
  share %d cores, whose time is spent with one replica already; the model is another too (160 pixels instead of Inception's 299), run
  by tract, since pods see no ONNX Runtime.
* After the load: none is wanted when the 60 s of the stable window hold no request and panic mode has ended; the last pod
  goes 30 s later (scale-to-zero-grace-period).
* No ingress is in the path here; queue-proxy, which needs a network of its own in each pod: %s. With the default
  target-burst-capacity of 211 the activator's count decides alone, so neither changes the replicas. The activator was in
  the path all the time: %s.
`, runtime.NumCPU(), tables, defaults.most.desired, defaults.peak(), defaults.peak(), hundred.peak(),
		then[0], top(today), milliseconds(defaults.firstReady), runtime.NumCPU(), yes(queueProxy), yes(!defaults.direct && !hundred.direct && !ten.direct))
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// peak is the most that either window saw: what the most replicas were wanted for.
func (s shown) peak() (peak float64) {
	for _, one := range s.moments {
		peak = max(peak, one.stable, one.panic)
	}
	return peak
}

func top(wanted []int32) (most int32) {
	for _, one := range wanted {
		most = max(most, one)
	}
	return most
}
