package knative

// Real servers scaled by Knative's own decisions: expected against seen.

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A service that takes 0.2 s: a faster one lowers the concurrency, since its clients spend their time elsewhere.
const hold = 200 * time.Millisecond

// short is the window of the tests: 10 s is the shortest that behaves, since the panic window is a tenth of it and
// buckets are seconds.
const short = "10s"

// window is what the scenarios use; CORYMB_KNATIVE_WINDOW=60s runs them with Knative's default.
func window(t *testing.T) (text string, length time.Duration) {
	t.Helper()
	text = os.Getenv("CORYMB_KNATIVE_WINDOW")
	if text == "" {
		text = short
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return text, length
}

var table []string

func row(scenario, expected, seen string) {
	table = append(table, fmt.Sprintf("| %s | %s | %s |", scenario, expected, seen))
}

func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		inside()
		return
	}
	code := m.Run()
	if len(table) > 0 {
		fmt.Println("| scenario | expected | seen |\n|---|---|---|\n" + strings.Join(table, "\n"))
	}
	os.Exit(code)
}

// extremes is the least and the most that was desired.
func extremes(decisions []decision) (least, most int32) {
	for i, one := range decisions {
		if i == 0 || one.desired < least {
			least = one.desired
		}
		most = max(most, one.desired)
	}
	return least, most
}

func plural(least, most int32) string {
	if least == most {
		return fmt.Sprint(most)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// whole leaves out decisions whose window lacks a report. Each second of the window is a bucket, and where the
// activator's report, or the scrape, of a second comes after the autoscaler's tick the bucket is empty: Knative then reads
// a tenth less, whatever is served. On a busy machine that happens.
func whole(decisions []decision, inFlight int) []decision {
	var whole []decision
	for _, one := range decisions {
		if near(one.stable, float64(inFlight), 0.05) {
			whole = append(whole, one)
		}
	}
	return whole
}

// podsFor is what Knative's formula gives for a concurrency.
func podsFor(t *testing.T, concurrency float64, annotations map[string]string) int32 {
	target, err := strconv.ParseFloat(annotations["target"], 64)
	if err != nil {
		t.Fatal(err)
	}
	utilization := 0.7
	if text, given := annotations["target-utilization-percentage"]; given {
		percentage, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		utilization = percentage / 100
	}
	return int32(math.Ceil(concurrency / (target * utilization)))
}

// TestSteadyLoad holds a number of requests in flight and looks at what Knative wants in the steady state.
func TestSteadyLoad(t *testing.T) {
	text, length := window(t)
	for _, c := range []struct {
		name        string
		workers     int
		hold        time.Duration
		annotations map[string]string
		desired     int32
		around      int32
		own         bool // TBC 0: no activator in the path, the server's own statistics decide
	}{
		{"5 in flight, target 1, 100 %, by the activator's count", 5, hold,
			map[string]string{"target": "1", "target-utilization-percentage": "100"}, 5, 0, false},
		{"5 in flight, target 1, 70 % (the default), by the activator's count", 5, hold,
			map[string]string{"target": "1"}, 8, 0, false},
		{"50 in flight, target 10, 100 %, by the activator's count", 50, time.Second,
			map[string]string{"target": "10", "target-utilization-percentage": "100"}, 5, 0, false},
		{"2 in flight, target 1, 70 %, by the server's own Stat", 2, hold,
			map[string]string{"target": "1", "target-burst-capacity": "0"}, 3, 0, true},
		{"5 in flight, target 1, 70 %, by the server's own Stat", 5, hold,
			map[string]string{"target": "1", "target-burst-capacity": "0"}, 8, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.annotations["window"] = text
			s := startService(t, options{annotations: c.annotations, runner: newBare(t)})
			load := newLoad(t, s.target, c.hold, false)
			load.scale(c.workers)
			// Two windows for pods to start and for panic mode to end, half of one to look.
			time.Sleep(2*length + 4*time.Second)
			from := time.Now()
			time.Sleep(length/2 + 3*time.Second)
			if err := until(func() bool { return len(whole(s.scaler.since(from), c.workers)) >= 3 }); err != nil {
				t.Fatalf("Knative should read %d in flight: %+v", c.workers, s.scaler.since(from))
			}
			all := s.scaler.since(from)
			answered, longest := load.end(t)
			for _, one := range all {
				if wanted := podsFor(t, one.stable, c.annotations); one.desired < wanted-c.around || one.desired > wanted+c.around {
					t.Errorf("Knative reads %.3f and wants %d; expected %d, give or take %d", one.stable, one.desired, wanted, c.around)
				}
			}
			steady := whole(all, c.workers)
			least, most := extremes(steady)
			if least < c.desired-c.around || most > c.desired+c.around {
				t.Errorf("Knative wants %s; expected %d, give or take %d: %+v", plural(least, most), c.desired, c.around, steady)
			}
			direct := false
			for _, one := range steady {
				direct = direct || one.burst >= 0
			}
			if direct != c.own {
				t.Errorf("the activator was in the path: %v; expected %v", !direct, !c.own)
			}
			last := steady[len(steady)-1]
			row(c.name, fmt.Sprintf("%d", c.desired), fmt.Sprintf("%s (stable concurrency %.2f, %d pods ready, %d requests, all 200, longest %d ms)",
				plural(least, most), last.stable, last.readyPods, answered, longest.Milliseconds()))
		})
	}
}

// TestRampAndZero climbs into panic mode, falls, goes to zero and comes back for one request.
func TestRampAndZero(t *testing.T) {
	text, length := window(t)
	s := startService(t, options{
		// A tenth of a short window is a single bucket of a second. Where the activator's report of that second comes after
		// the autoscaler's tick the bucket is empty, and the panic window sees nothing: three of them always hold one.
		annotations: map[string]string{
			"target": "1", "target-utilization-percentage": "100", "window": text, "panic-window-percentage": "30",
		},
		config: map[string]string{"scale-to-zero-grace-period": "6s"},
		runner: newBare(t),
	})
	load := newLoad(t, s.target, hold, false)
	load.scale(1)
	time.Sleep(length + 2*time.Second)
	before := s.scaler.since(time.Time{})
	if len(before) == 0 || before[len(before)-1].desired != 1 || before[len(before)-1].panicking {
		t.Fatalf("one in flight should want one pod, without panic: %+v", before)
	}

	climb := time.Now()
	// Quicker than pods come: where they keep pace there is nothing to panic about.
	for workers := 2; workers <= 6; workers++ {
		load.scale(workers)
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(length/2 + 2*time.Second)
	panicked := 0
	climbed := s.scaler.since(climb)
	for _, one := range climbed {
		if one.panicking {
			panicked++
		}
	}
	_, most := extremes(climbed)
	if panicked == 0 || most < 6 || most > 7 {
		t.Errorf("the ramp to 6 should panic and want 6, or 7 where a request overlapped: %+v", climbed)
	}
	row("ramp from 1 to 6 in flight in 1 s, target 1, 100 %", "panic mode, 6", fmt.Sprintf("panic mode in %d of %d decisions, %d at most", panicked, len(climbed), most))

	load.scale(2)
	if err := until(func() bool {
		last := s.scaler.since(climb)
		return last[len(last)-1].desired == 2 && !last[len(last)-1].panicking
	}); err != nil {
		t.Errorf("it should want 2 again after panic mode: %+v", s.scaler.since(climb))
	}
	fell := s.scaler.since(climb)
	held := 0
	for i, one := range fell {
		if one.panicking {
			held = i
		}
	}
	for i := 1; i <= held; i++ {
		if fell[i].panicking && fell[i-1].panicking && fell[i].desired < fell[i-1].desired {
			t.Errorf("panic mode let pods go: %+v then %+v", fell[i-1], fell[i])
		}
	}
	row("then 2 in flight", "no pod fewer in panic mode, then 2", fmt.Sprintf("as expected, %d s after the ramp began", int(fell[len(fell)-1].at.Sub(climb).Seconds())))

	answered, longest := load.end(t)
	idle := time.Now()
	if err := until(func() bool { return s.pods.count() == 0 }); err != nil {
		t.Fatalf("it should go to zero: %+v", s.scaler.since(idle))
	}
	gone := time.Since(idle)
	s.pods.stopping.Wait()
	took, err := load.request(0)
	if err != nil {
		t.Errorf("the first request from zero: %v", err)
	}
	row("no request, then one", "0 pods, then an answer", fmt.Sprintf("0 pods after %d s; answered from zero in %d ms; %d requests before, all 200, longest %d ms",
		int(gone.Seconds()), took.Milliseconds(), answered, longest.Milliseconds()))
}
