package knative

// What `corymb tune` recommends, held to by Knative's own autoscaler: servers of three kinds whose speed is known, measured by the
// real program, then scaled at the target that it printed. The servers sleep, so that many pods fit on a small machine.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// timed is a server of a known speed, in the test's own process.
type timed struct {
	// serve makes one pod's work: what it returns is called for every request, and returns when that is answered.
	serve func() func()
	// The largest batch and the instances, as Triton tells its configuration.
	batch, instances int
	// coldStart is from when a pod is wanted to when it is ready.
	coldStart time.Duration
}

// workers take one request each at a time.
func workers(count int, each time.Duration) func() func() {
	return func() func() {
		free := make(chan struct{}, count)
		return func() {
			free <- struct{}{}
			time.Sleep(each)
			<-free
		}
	}
}

// batches gather what waits, up to so many; a run takes so long, and longer for each of its requests.
func batches(most int, run, each time.Duration) func() func() {
	return func() func() {
		waiting := make(chan chan struct{}, 1000)
		go func() {
			for first := range waiting {
				gathered := []chan struct{}{first}
				for len(gathered) < most && len(waiting) > 0 {
					gathered = append(gathered, <-waiting)
				}
				time.Sleep(run + time.Duration(len(gathered))*each)
				for _, one := range gathered {
					close(one)
				}
			}
		}()
		return func() {
			done := make(chan struct{})
			waiting <- done
			<-done
		}
	}
}

const (
	timedMetadata = `{"name":"timed","versions":["1"],"platform":"none",` +
		`"inputs":[{"name":"x","datatype":"FP32","shape":[1]}],"outputs":[{"name":"y","datatype":"FP32","shape":[1]}]}`
	timedAnswer = `{"model_name":"timed","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[0]}]}`
)

func (s timed) handler() http.Handler {
	mux, serve := http.NewServeMux(), s.serve()
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
		}
	}
	mux.Handle("GET /v2/models/timed", say(timedMetadata))
	mux.Handle("GET /v2/models/timed/config", say(fmt.Sprintf(
		`{"name":"timed","max_batch_size":%d,"instance_group":[{"name":"timed","kind":"KIND_CPU","count":%d}]}`, s.batch, s.instances)))
	mux.HandleFunc("POST /v2/models/timed/infer", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		serve()
		say(timedAnswer)(w, r)
	})
	return mux
}

func (timed) port() int32 { return 8080 }

func (s timed) start(_, ip string) (running, error) {
	time.Sleep(s.coldStart)
	server := &http.Server{Addr: ip + ":8080", Handler: s.handler(), ReadHeaderTimeout: limit}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	if err := until(func() bool { return listening(server.Addr) || len(failed) > 0 }); err != nil || len(failed) > 0 {
		return nil, fmt.Errorf("%s: %v", server.Addr, err)
	}
	return served{server}, nil
}

type served struct{ *http.Server }

// stop takes no new request once the endpoints have had time to change, and ends with the last answer.
func (s served) stop() error {
	time.Sleep(time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return s.Shutdown(ctx)
}

// advice is what is read of `tune --json`.
type advice struct {
	Recommendation *struct {
		Target               float64
		Utilization          float64 `json:"target_utilization_percentage"`
		ContainerConcurrency int64   `json:"container_concurrency"`
		Replicas             int32
		Parallelism          int
		ServiceTime          float64 `json:"service_time_ms"`
		Warnings             []string
	}
	Rejected json.RawMessage
}

// run is the program's answer in JSON.
func run(t *testing.T, into any, arguments ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*limit)
	defer cancel()
	command := exec.CommandContext(ctx, corymb(t), append(arguments, "--json")...)
	var out, log bytes.Buffer
	command.Stdout, command.Stderr = &out, &log
	if err := command.Run(); err != nil {
		t.Fatalf("corymb %v: %v\n%s%s", arguments, err, &log, &out)
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatalf("corymb %v: %v", arguments, err)
	}
}

// TestWhatTuneRecommendsHolds measures each kind of server, then gives Knative the target that was recommended, and a steady load
// that nobody holds back.
func TestWhatTuneRecommendsHolds(t *testing.T) {
	text, length := window(t)
	for _, c := range []struct {
		name, file  string
		server      timed
		rate        int
		limit       time.Duration
		parallelism [2]int
	}{
		{"2 workers of 50 ms", "workers", timed{workers(2, 50*time.Millisecond), 1, 2, 2 * time.Second}, 100, 200 * time.Millisecond, [2]int{2, 2}},
		{"batches of up to 8 in 20 ms and 2.5 ms a request", "batches", timed{batches(8, 20*time.Millisecond, 2500*time.Microsecond), 8, 1, 2 * time.Second},
			400, 150 * time.Millisecond, [2]int{3, 6}},
		{"one worker of 2 ms", "fast", timed{workers(1, 2*time.Millisecond), 1, 1, 2 * time.Second}, 800, 50 * time.Millisecond, [2]int{1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			measured := c.server
			measured.coldStart = 0
			alone := fmt.Sprintf("127.77.%d.1", subnets.Add(1))
			started, err := measured.start("measured", alone)
			if err != nil {
				t.Fatal(err)
			}
			var told advice
			// Its pods have no proxy of their own.
			run(t, &told, "tune", "http://"+alone+":8080", "--model-name", "timed", "--protocol", "v2", "--step", "1s", "--warm-up", "200ms",
				"--proxy-time", "0s", "--max-concurrency", "32", "--rate", fmt.Sprint(c.rate), "--objective", fmt.Sprintf("p95=%dms", c.limit.Milliseconds()))
			if err := started.stop(); err != nil {
				t.Error(err)
			}
			best := told.Recommendation
			if best == nil {
				t.Fatalf("nothing is recommended: %s", told.Rejected)
			}
			if best.Parallelism < c.parallelism[0] || best.Parallelism > c.parallelism[1] {
				t.Errorf("it works on %d at a time; expected %v", best.Parallelism, c.parallelism)
			}

			// Measured one after the other, scaled at the same time: each server sleeps most of it.
			t.Parallel()
			s := startService(t, options{
				annotations: map[string]string{
					"target": fmt.Sprint(best.Target), "target-utilization-percentage": fmt.Sprint(best.Utilization), "window": text,
					// As in TestRampAndZero.
					"panic-window-percentage": "30",
				},
				containerConcurrency: best.ContainerConcurrency,
				// As the manifest of `tune` has it.
				maxScale: 2 * int(best.Replicas),
				runner:   c.server,
			})
			seen := watch(s)
			// One pod first: panic mode, which lasts for a window, then one window in which what was too much leaves.
			settling := 2*length + 8*time.Second
			var loaded struct {
				Report struct {
					Requests, Answered int
					Latency            struct {
						Mean float64 `json:"mean_ms"`
						P95  float64 `json:"p95_ms"`
					}
				}
			}
			run(t, &loaded, "bench", s.throughActivator(), "--model-name", "timed", "--protocol", "v2", "--rate", fmt.Sprint(c.rate),
				"--warm-up", settling.String(), "--duration", length.String())
			moments := seen.stop()
			report := loaded.Report
			// By Little's law, of what was seen: what is in flight, over what a pod is kept at.
			ideal := int32(math.Ceil(float64(c.rate) * report.Latency.Mean / 1000 / (best.Target * best.Utilization / 100)))
			var pods []int32
			for _, one := range moments {
				if one.seconds > settling.Seconds() {
					pods = append(pods, int32(one.ready))
				}
			}
			if len(pods) < 5 {
				t.Fatalf("the pods were counted %d times in %v", len(pods), length)
			}
			least, most := slices.Min(pods), slices.Max(pods)
			if least < ideal-1 || most > ideal+1 {
				t.Errorf("%s pods at target %v; expected %d\n%s", plural(least, most), best.Target, ideal, changes(moments))
			}
			if best.Replicas < ideal-1 || best.Replicas > ideal+1 {
				t.Errorf("tune says %d pods; expected %d", best.Replicas, ideal)
			}
			if report.Requests == 0 || report.Answered != report.Requests {
				t.Errorf("%d of %d requests were answered", report.Answered, report.Requests)
			}
			if report.Latency.P95 > float64(c.limit.Milliseconds()) {
				t.Errorf("p95 is %.1f ms; the objective is %v", report.Latency.P95, c.limit)
			}
			if folder := os.Getenv("CORYMB_KNATIVE_PICTURES"); folder != "" {
				draw(t, fmt.Sprintf("%s at target %v", c.name, best.Target), filepath.Join(folder, c.file), moments)
			}
			row("tune: "+c.name, fmt.Sprintf("%d pods at target %v, give or take 1", ideal, best.Target),
				fmt.Sprintf("%s pods, p95 %.0f ms of %d", plural(least, most), report.Latency.P95, c.limit.Milliseconds()))
		})
	}
}
