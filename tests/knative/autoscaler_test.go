package knative

// Knative's autoscaler: its collector scrapes the pods and hears the activator, its scaler decides.

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	netcfg "knative.dev/networking/pkg/config"
	"knative.dev/serving/pkg/apis/autoscaling"
	autoscalingv1alpha1 "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	asconfig "knative.dev/serving/pkg/autoscaler/config"
	"knative.dev/serving/pkg/autoscaler/config/autoscalerconfig"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
	"knative.dev/serving/pkg/autoscaler/statserver"
	kparesources "knative.dev/serving/pkg/reconciler/autoscaling/kpa/resources"
	aresources "knative.dev/serving/pkg/reconciler/autoscaling/resources"
	"knative.dev/serving/pkg/resources"
)

var key = types.NamespacedName{Namespace: namespace, Name: revision}

// decision is one answer of Knative's scaler, with what it rests on by Knative's own gauges.
type decision struct {
	at               time.Time
	desired, burst   int32
	stable, panicked float64 // observed concurrency in the two windows
	panicking        bool
	decided          bool // false where Knative had no data to decide on
	readyPods        int
}

// podAutoscaler is what the annotations of a service become.
func podAutoscaler(annotations map[string]string, containerConcurrency int64) *autoscalingv1alpha1.PodAutoscaler {
	all := map[string]string{autoscaling.ClassAnnotationKey: autoscaling.KPA, autoscaling.MetricAnnotationKey: autoscaling.Concurrency}
	for name, value := range annotations {
		all[autoscaling.GroupName+"/"+name] = value
	}
	return &autoscalingv1alpha1.PodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: revision, Labels: labels(), Annotations: all},
		Spec: autoscalingv1alpha1.PodAutoscalerSpec{
			ContainerConcurrency: containerConcurrency,
			Reachability:         autoscalingv1alpha1.ReachabilityReachable,
		},
	}
}

// defaults is config-autoscaler as it is shipped, but for these keys.
func defaults(t *testing.T, changes map[string]string) *autoscalerconfig.Config {
	t.Helper()
	config, err := asconfig.NewConfigFromMap(changes)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// autoscaler holds the parts, and what they have decided.
type autoscaler struct {
	multi     *scaling.MultiScaler
	collector *asmetrics.MetricCollector
	address   string

	mutex     sync.Mutex
	decisions []decision
}

func startAutoscaler(t *testing.T, logger *zap.SugaredLogger, lister corev1listers.PodLister, pa *autoscalingv1alpha1.PodAutoscaler,
	config *autoscalerconfig.Config, host string,
) *autoscaler {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	accessor := resources.NewPodAccessor(lister, namespace, revision)

	a := &autoscaler{address: host + ":8080"}
	a.collector = asmetrics.NewMetricCollector(func(m *autoscalingv1alpha1.Metric, logger *zap.SugaredLogger) (asmetrics.StatsScraper, error) {
		return asmetrics.NewStatsScraper(m, revision, accessor, false, netcfg.MeshCompatibilityModeDisabled, logger, meters), nil
	}, logger)
	a.multi = scaling.NewMultiScaler(ctx.Done(), func(d *scaling.Decider) (scaling.UniScaler, error) {
		scaler := scaling.New(attribute.NewSet(), meters, namespace, revision, a.collector, accessor, &d.Spec)
		return &watched{UniScaler: scaler, owner: a, reader: reader, accessor: accessor}, nil
	}, logger)

	// The activator's statistics arrive as they do in a cluster.
	messages := make(chan asmetrics.StatMessage, 1000)
	server := statserver.New(a.address, messages, logger, nil)
	go func() {
		if err := server.ListenAndServe(); err != nil {
			t.Errorf("stats server: %v", err)
		}
	}()
	t.Cleanup(func() { server.Shutdown(time.Second) })
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case message := <-messages:
				a.collector.Record(message.Key, time.Now(), message.Stat)
				a.multi.Poke(message.Key, message.Stat)
			}
		}
	}()

	// Buckets are seconds of the clock: in the middle of one, a tick that comes early or late stays in its own.
	sleepToMidSecond()
	if err := a.collector.CreateOrUpdate(aresources.MakeMetric(pa, revision+"-private", config)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.collector.Delete(namespace, revision) })
	if _, err := a.multi.Create(ctx, kparesources.MakeDecider(pa, config)); err != nil {
		t.Fatal(err)
	}
	return a
}

// watched keeps what Knative's scaler answers.
type watched struct {
	scaling.UniScaler
	owner    *autoscaler
	reader   *sdkmetric.ManualReader
	accessor resources.PodAccessor
}

func (w *watched) Scale(logger *zap.SugaredLogger, now time.Time) scaling.ScaleResult {
	result := w.UniScaler.Scale(logger, now)
	ready, _ := w.accessor.ReadyCount()
	seen := decision{at: now, desired: result.DesiredPodCount, burst: result.ExcessBurstCapacity, decided: result.ScaleValid, readyPods: ready}
	var page metricdata.ResourceMetrics
	if err := w.reader.Collect(context.Background(), &page); err == nil {
		seen.stable = gauge(page, "kn.revision.concurrency.stable")
		seen.panicked = gauge(page, "kn.revision.concurrency.panic")
		seen.panicking = gauge(page, "kn.revision.panic.mode") > 0
	}
	w.owner.mutex.Lock()
	w.owner.decisions = append(w.owner.decisions, seen)
	w.owner.mutex.Unlock()
	return result
}

func gauge(page metricdata.ResourceMetrics, name string) float64 {
	for _, scope := range page.ScopeMetrics {
		for _, one := range scope.Metrics {
			if one.Name != name {
				continue
			}
			switch data := one.Data.(type) {
			case metricdata.Gauge[float64]:
				if len(data.DataPoints) > 0 {
					return data.DataPoints[0].Value
				}
			case metricdata.Gauge[int64]:
				if len(data.DataPoints) > 0 {
					return float64(data.DataPoints[0].Value)
				}
			}
		}
	}
	return 0
}

// since is every valid decision after a moment.
func (a *autoscaler) since(from time.Time) (found []decision) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for _, one := range a.decisions {
		if one.decided && one.at.After(from) {
			found = append(found, one)
		}
	}
	return found
}
