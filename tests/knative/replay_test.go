package knative

// The simulator against the code that it imitates: what `corymb tune --replay --json` says was recorded is recorded in
// Knative's collector, and Knative's Scale must want at every tick what the simulator wanted, for the same reasons.

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
	kparesources "knative.dev/serving/pkg/reconciler/autoscaling/kpa/resources"
	aresources "knative.dev/serving/pkg/reconciler/autoscaling/resources"
)

// simulated is the part of an outcome that is compared.
type simulated struct {
	Autoscaling   map[string]any `json:"autoscaling"`
	StartReplicas int            `json:"start_replicas"`
	Records       []struct{ T, Concurrency, Requests float64 }
	Ticks         []struct {
		T, Stable, Panic    float64
		Ready               int
		Desired             *int32
		ExcessBurstCapacity int32 `json:"excess_burst_capacity"`
	}
}

// random is a trace of bursts and lulls of all lengths.
func random(seed int64) string {
	source := rand.New(rand.NewSource(seed))
	var trace strings.Builder
	for second := 0.0; second < 3000; second += []float64{0.7, 3, 11, 40, 130}[source.Intn(5)] {
		rate := []float64{0, 0, 1, 10, 60, 200}[source.Intn(6)] * source.Float64()
		fmt.Fprintf(&trace, "%.1f,%.2f\n", second, rate)
	}
	return trace.String() + "3200,0\n"
}

func TestSimulatorWantsWhatKnativeWants(t *testing.T) {
	burst := "0,5\n120,80\n180,0\n420,30\n480,0\n490,0\n700,3\n900,0\n"
	large := "0,20\n60,400\n200,2000\n400,4500\n600,0\n"
	for _, c := range []struct{ name, trace, flags string }{
		{"a burst, every default", burst, "--service-time 200ms --parallelism 4 --target 1 --target 2 --target 10"},
		{"from zero, with a hard limit", burst, "--service-time 100ms --target 1 --start-replicas 0 --set container-concurrency=1"},
		{"a delay before scaling down", random(1), "--service-time lognormal:80ms:600ms --parallelism 2 --target 1 --target 0.5 --set scale-down-delay=30s --set container-concurrency=3"},
		{"the activator out of the path, odd windows", random(2), "--service-time exponential:150ms --parallelism 2 --target 1 --target 3 --set target-burst-capacity=0 --set window=31s --set panic-window-percentage=20"},
		{"the activator always in the path, weighted averages", random(3), "--service-time exponential:150ms --parallelism 2 --target 1 --set target-burst-capacity=-1 --set metric-aggregation-algorithm=weighted-exponential --set activation-scale=3"},
		{"requests a second, slow steps", random(4), "--service-time 50ms --target 5 --set metric=rps --set max-scale-up-rate=2 --set max-scale-down-rate=1.5 --start-replicas 4"},
		{"3,000 pods", large, "--service-time 180ms --parallelism 4 --target 4 --target 1 --set max-scale=3000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace.csv")
			if err := os.WriteFile(trace, []byte(c.trace), 0o600); err != nil {
				t.Fatal(err)
			}
			arguments := append([]string{"tune", "--json", "--replay", trace}, strings.Fields(c.flags)...)
			output, err := exec.Command(corymb(t), arguments...).Output()
			if err != nil {
				t.Fatal(err)
			}
			var document struct{ Replays []simulated }
			if err := json.Unmarshal(output, &document); err != nil || len(document.Replays) == 0 {
				t.Fatal(err, "no replays")
			}
			ticks := 0
			for _, outcome := range document.Replays {
				ticks += compare(t, outcome)
			}
			row("replay: "+c.name, "0 of the ticks differ", fmt.Sprintf("%d ticks agree", ticks))
		})
	}
}

// compare answers how many ticks had data to decide on.
func compare(t *testing.T, outcome simulated) int {
	t.Helper()
	text := func(name string) string {
		if number, isNumber := outcome.Autoscaling[name].(float64); isNumber {
			return strconv.FormatFloat(number, 'g', -1, 64)
		}
		return fmt.Sprint(outcome.Autoscaling[name])
	}
	number := func(name string) float64 { value, _ := outcome.Autoscaling[name].(float64); return value }
	annotations := map[string]string{
		"metric":                        text("metric"),
		"metric-aggregation-algorithm":  text("metric_aggregation_algorithm"),
		"target-utilization-percentage": text("target_utilization_percentage"),
		"target-burst-capacity":         text("target_burst_capacity"),
		"window":                        text("window") + "s",
		"panic-window-percentage":       text("panic_window_percentage"),
		"panic-threshold-percentage":    text("panic_threshold_percentage"),
		"scale-down-delay":              text("scale_down_delay") + "s",
	}
	if outcome.Autoscaling["target"] != nil {
		annotations["target"] = text("target")
	}
	if number("activation_scale") > 1 {
		annotations["activation-scale"] = text("activation_scale")
	}
	config := defaults(t, map[string]string{
		"max-scale-up-rate": text("max_scale_up_rate"), "max-scale-down-rate": text("max_scale_down_rate"),
	})
	pa := podAutoscaler(annotations, int64(number("container_concurrency")))
	logger := zap.NewNop().Sugar()
	collector := asmetrics.NewMetricCollector(func(*autoscalingv1alpha1.Metric, *zap.SugaredLogger) (asmetrics.StatsScraper, error) {
		return nil, nil // nobody is scraped
	}, logger)
	// A target to scrape, which nobody does: only then is a window without records no data.
	if err := collector.CreateOrUpdate(aresources.MakeMetric(pa, "pods", config)); err != nil {
		t.Fatal(err)
	}
	defer collector.Delete(namespace, revision)
	ready := counted(outcome.StartReplicas)
	spec := kparesources.MakeDecider(pa, config).Spec
	scaler := scaling.New(attribute.NewSet(), noop.NewMeterProvider(), namespace, revision, collector, &ready, &spec)

	start := time.Unix(1_700_000_000, 0)
	at := func(t float64) time.Time { return start.Add(time.Duration(math.Round(t*1e6)) * time.Microsecond) }
	next, decided := 0, 0
	for _, tick := range outcome.Ticks {
		for ; next < len(outcome.Records) && outcome.Records[next].T <= tick.T; next++ {
			record := outcome.Records[next]
			stat := asmetrics.Stat{PodName: "pod", AverageConcurrentRequests: record.Concurrency, RequestCount: record.Requests}
			collector.Record(key, at(record.T), stat)
		}
		ready = counted(tick.Ready)
		averages := collector.StableAndPanicConcurrency
		if text("metric") == "rps" {
			averages = collector.StableAndPanicRPS
		}
		stable, panicking, _ := averages(key, at(tick.T))
		result := scaler.Scale(logger, at(tick.T))
		if result.ScaleValid != (tick.Desired != nil) {
			t.Fatalf("at %v s Knative has data: %v, the simulator wants %v", tick.T, result.ScaleValid, tick.Desired)
		}
		if !result.ScaleValid {
			continue
		}
		decided++
		if result.DesiredPodCount != *tick.Desired || result.ExcessBurstCapacity != tick.ExcessBurstCapacity ||
			math.Abs(stable-tick.Stable) > 1e-9 || math.Abs(panicking-tick.Panic) > 1e-9 {
			t.Fatalf("at %v s with %d pods Knative wants %d (%d; %v, %v), the simulator %d (%d; %v, %v)", tick.T, tick.Ready,
				result.DesiredPodCount, result.ExcessBurstCapacity, stable, panicking,
				*tick.Desired, tick.ExcessBurstCapacity, tick.Stable, tick.Panic)
		}
	}
	if decided == 0 {
		t.Fatal("nothing was decided")
	}
	return decided
}
