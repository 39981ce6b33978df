package knative

// Knative's activator, in front of the pods: its throttler, its reporter, its handler, and its line to the autoscaler.

import (
	"context"
	"net/http"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeinformers "k8s.io/client-go/informers"
	netapis "knative.dev/networking/pkg/apis/networking"
	netcfg "knative.dev/networking/pkg/config"
	netstats "knative.dev/networking/pkg/http/stats"
	endpointskey "knative.dev/pkg/client/injection/kube/informers/core/v1/endpoints"
	servicekey "knative.dev/pkg/client/injection/kube/informers/core/v1/service"
	"knative.dev/pkg/logging"
	pkgnet "knative.dev/pkg/network"
	"knative.dev/pkg/ptr"
	"knative.dev/pkg/websocket"
	"knative.dev/serving/pkg/activator"
	activatorhandler "knative.dev/serving/pkg/activator/handler"
	activatornet "knative.dev/serving/pkg/activator/net"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	servingfake "knative.dev/serving/pkg/client/clientset/versioned/fake"
	servinginformers "knative.dev/serving/pkg/client/informers/externalversions"
	revisionkey "knative.dev/serving/pkg/client/injection/informers/serving/v1/revision"
)

// startActivator listens on host and sends its statistics to the autoscaler's websocket. What passes through it is
// counted in passing too, by Knative's own algorithm, for those who want to see it.
func startActivator(t *testing.T, logger *zap.SugaredLogger, meters metric.MeterProvider, informers kubeinformers.SharedInformerFactory,
	host, autoscaler string, containerConcurrency int64, h2c bool, passing *netstats.RequestStats,
) (address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(logging.WithLogger(context.Background(), logger))
	t.Cleanup(cancel)

	object := &servingv1.Revision{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: revision, Labels: labels()},
		Spec: servingv1.RevisionSpec{
			ContainerConcurrency: ptr.Int64(containerConcurrency),
			TimeoutSeconds:       ptr.Int64(300),
			PodSpec:              corev1.PodSpec{Containers: []corev1.Container{{Name: "user-container"}}},
		},
	}
	if h2c {
		object.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: string(netapis.ProtocolH2C)}}
	}
	revisions := servinginformers.NewSharedInformerFactory(servingfake.NewSimpleClientset(object), 0)
	ctx = context.WithValue(ctx, revisionkey.Key{}, revisions.Serving().V1().Revisions())
	ctx = context.WithValue(ctx, endpointskey.Key{}, informers.Core().V1().Endpoints())
	ctx = context.WithValue(ctx, servicekey.Key{}, informers.Core().V1().Services())

	// The throttler asks for the revision when it hears of its endpoints, so revisions come first.
	throttler := activatornet.NewThrottler(ctx, host)
	revisions.Start(ctx.Done())
	revisions.WaitForCacheSync(ctx.Done())
	transport := pkgnet.NewProxyAutoTransport(1000, 100)
	go throttler.Run(ctx, transport, false, netcfg.MeshCompatibilityModeDisabled)
	informers.Start(ctx.Done())
	informers.WaitForCacheSync(ctx.Done())

	stats := make(chan []asmetrics.StatMessage)
	sink := websocket.NewDurableSendingConnection("ws://"+autoscaler, logger)
	t.Cleanup(func() { _ = sink.Shutdown() })
	go activator.ReportStats(logger, sink, stats)
	if err := until(func() bool { return sink.Status() == nil }); err != nil {
		t.Fatalf("the activator's line to the autoscaler: %v", err)
	}
	reporter := activatorhandler.NewConcurrencyReporter(ctx, "activator", stats, meters)
	go reporter.Run(ctx.Done())

	handler := activatorhandler.New(ctx, throttler, transport, false, logger, false, tracenoop.NewTracerProvider(), meters)
	handler = reporter.Handler(handler)
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passing.HandleEvent(netstats.ReqEvent{Time: time.Now(), Type: netstats.ReqIn})
		defer func() { passing.HandleEvent(netstats.ReqEvent{Time: time.Now(), Type: netstats.ReqOut}) }()
		id := types.NamespacedName{Namespace: namespace, Name: revision}
		handler.ServeHTTP(w, r.WithContext(activatorhandler.WithRevisionAndID(r.Context(), object, id)))
	})
	address = host + ":8012"
	server := pkgnet.NewServer(address, named)
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			t.Errorf("activator: %v", err)
		}
	}()
	t.Cleanup(func() { server.Close() })
	if err := until(func() bool { return listening(address) }); err != nil {
		t.Fatal(err)
	}
	return address
}
