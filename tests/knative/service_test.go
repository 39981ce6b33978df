package knative

// A Knative Service put together: pods, activator, autoscaler, and the few lines between them that Knative does not
// export.

import (
	"context"
	"testing"
	"time"

	noop "go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	netapis "knative.dev/networking/pkg/apis/networking"
	netstats "knative.dev/networking/pkg/http/stats"
)

type options struct {
	annotations          map[string]string
	config               map[string]string
	containerConcurrency int64
	runner               runner
	h2c                  bool
	// fixed keeps the number of pods in the test's hands.
	fixed bool
	// maxScale is the most pods; 0 is no limit. Knative's reconciler holds to it, not its scaler.
	maxScale int
	// fromZero begins without a pod.
	fromZero bool
}

// knativeService is what requests are sent to.
type knativeService struct {
	pods      *pods
	scaler    *autoscaler
	activator string
	passing   *netstats.RequestStats
	grace     time.Duration
	window    time.Duration
	maxScale  int
}

func startService(t *testing.T, o options) *knativeService {
	t.Helper()
	logger := zap.NewNop().Sugar()
	client := fake.NewSimpleClientset()
	informers := kubeinformers.NewSharedInformerFactory(client, 0)
	lister := informers.Core().V1().Pods().Lister()

	protocol := netapis.ServicePortName(netapis.ProtocolHTTP1)
	if o.h2c {
		protocol = netapis.ServicePortName(netapis.ProtocolH2C)
	}
	s := &knativeService{pods: newPods(t, client, o.runner, protocol), passing: netstats.NewRequestStats(time.Now())}
	config := defaults(t, o.config)
	pa := podAutoscaler(o.annotations, o.containerConcurrency)
	host := s.pods.address(2)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	informers.Core().V1().Pods().Informer()
	informers.Start(ctx.Done())
	informers.WaitForCacheSync(ctx.Done())

	s.pods.scale(1)
	if err := until(func() bool { return len(s.pods.ready()) == 1 }); err != nil {
		t.Fatalf("the first pod: %v", err)
	}
	s.scaler = startAutoscaler(t, logger, lister, pa, config, host)
	s.activator = startActivator(t, logger, noop.NewMeterProvider(), informers, host, s.scaler.address, o.containerConcurrency, o.h2c, s.passing)
	s.grace, s.window, s.maxScale = config.ScaleToZeroGracePeriod, config.StableWindow, o.maxScale
	if window, ok := pa.Window(); ok {
		s.window = window
	}
	if o.fromZero {
		// Knative would take the pod away when a window and the grace period have passed; here as soon as it wants none.
		if err := until(func() bool {
			decider, err := s.scaler.multi.Get(ctx, namespace, revision)
			return err == nil && decider.Status.DesiredScale == 0
		}); err != nil {
			t.Fatalf("without a request it should want no pod: %v", err)
		}
		s.pods.scale(0)
		s.pods.stopping.Wait()
	}
	if !o.fixed {
		go s.reconcile(ctx)
	}
	return s
}

// reconcile stands for Knative's kpa reconciler, which cannot be imported: it applies each decision at once, but zero
// only when the revision has been active for a stable window and then idle for the grace period.
func (s *knativeService) reconcile(ctx context.Context) {
	var idle, active time.Time
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		decider, err := s.scaler.multi.Get(ctx, namespace, revision)
		if err != nil || decider.Status.DesiredScale < 0 {
			continue
		}
		want := int(decider.Status.DesiredScale)
		if s.maxScale > 0 {
			want = min(want, s.maxScale)
		}
		if want > 0 {
			if active.IsZero() {
				active = time.Now()
			}
			idle = time.Time{}
			s.pods.scale(want)
			continue
		}
		if idle.IsZero() {
			idle = time.Now()
		}
		if s.pods.count() > 1 {
			s.pods.scale(1)
		}
		if time.Since(active) >= s.window && time.Since(idle) >= s.grace {
			s.pods.scale(0)
			active = time.Time{}
		}
	}
}

// target is where the ingress sends a request: to the activator while the autoscaler wants it in the path, or while
// there is no pod, else to a pod.
func (s *knativeService) target() string {
	decider, err := s.scaler.multi.Get(context.Background(), namespace, revision)
	direct := err == nil && decider.Status.DesiredScale > 0 && decider.Status.ExcessBurstCapacity >= 0
	if pod := s.pods.next(); direct && pod != "" {
		return pod
	}
	return "http://" + s.activator
}

func (s *knativeService) throughActivator() string { return "http://" + s.activator }
