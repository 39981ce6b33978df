package knative

// Knative's collector and scaler in virtual time: what cannot be run here, such as 72 pods, and a trace at a speed that
// no clock allows.

import (
	"fmt"
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

// counted is a number of ready pods.
type counted int

func (c *counted) ReadyCount() (int, error)    { return int(*c), nil }
func (c *counted) NotReadyCount() (int, error) { return 0, nil }

// replay gives each second's concurrency to Knative's code and answers what it wants every 2 s, with pods that are
// ready so many seconds after they were wanted.
func replay(t *testing.T, annotations, changes map[string]string, concurrency []float64, coldStart int) []int32 {
	t.Helper()
	logger := zap.NewNop().Sugar()
	config, pa := defaults(t, changes), podAutoscaler(annotations, 0)
	collector := asmetrics.NewMetricCollector(func(*autoscalingv1alpha1.Metric, *zap.SugaredLogger) (asmetrics.StatsScraper, error) {
		return nil, nil // nobody is scraped
	}, logger)
	metric := aresources.MakeMetric(pa, "", config)
	if err := collector.CreateOrUpdate(metric); err != nil {
		t.Fatal(err)
	}
	defer collector.Delete(namespace, revision)
	ready := counted(1)
	spec := kparesources.MakeDecider(pa, config).Spec
	scaler := scaling.New(attribute.NewSet(), noop.NewMeterProvider(), namespace, revision, collector, &ready, &spec)

	start := time.Unix(1_700_000_000, 0)
	wanted := []int32{}
	starting := make([]int32, len(concurrency)+coldStart+1) // what is ready from a second on; 0 says nothing
	for second, value := range concurrency {
		now := start.Add(time.Duration(second) * time.Second)
		if starting[second] > 0 {
			ready = counted(starting[second])
		}
		collector.Record(key, now, asmetrics.Stat{PodName: "activator", AverageConcurrentRequests: value})
		if second%2 == 0 {
			continue
		}
		result := scaler.Scale(logger, now)
		if !result.ScaleValid {
			continue
		}
		wanted = append(wanted, result.DesiredPodCount)
		if result.DesiredPodCount < int32(ready) {
			ready = counted(result.DesiredPodCount)
		} else {
			starting[second+coldStart] = result.DesiredPodCount
		}
	}
	return wanted
}

func steady(value float64, seconds int) (all []float64) {
	for range seconds {
		all = append(all, value)
	}
	return all
}

func TestInVirtualTime(t *testing.T) {
	for _, c := range []struct {
		name        string
		annotations map[string]string
		concurrency []float64
		last        int32
	}{
		{"50 in flight, target 1, every default, 5 minutes in virtual time", map[string]string{"target": "1"}, steady(50, 300), 72},
		{"5 in flight, target 1, every default, 5 minutes in virtual time", map[string]string{"target": "1"}, steady(5, 300), 8},
		{"the same at 100 %", map[string]string{"target": "1", "target-utilization-percentage": "100"}, steady(5, 300), 5},
		{"50 in flight, then none for 2 minutes, in virtual time", map[string]string{"target": "10"}, append(steady(50, 120), steady(0, 150)...), 0},
	} {
		wanted := replay(t, c.annotations, nil, c.concurrency, 1)
		last := wanted[len(wanted)-1]
		if last != c.last {
			t.Errorf("%s: %d; expected %d: %v", c.name, last, c.last, wanted)
		}
		row(c.name, fmt.Sprint(c.last), fmt.Sprint(last))
	}
}
