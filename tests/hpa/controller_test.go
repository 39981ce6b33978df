package hpa

// Kubernetes' controller, with what it asks for in the test's hands.

import (
	"context"
	"math"
	"strconv"
	stdsync "sync"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	scalefake "k8s.io/client-go/scale/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	autoscalingdefaults "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
)

const (
	namespace  = "default"
	deployment = "served"
	metric     = "corymb_concurrency"
)

func init() {
	// Errors are logged. What slows them down compares the time of the bubble with that outside, and would wait for decades.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
}

// world is what the controller sees.
type world struct {
	stdsync.Mutex
	current, status int32
	values          metrics.PodMetricsInfo
	external        int64
	updates         int
}

func (w *world) GetResourceMetric(context.Context, corev1.ResourceName, string, labels.Selector, string) (metrics.PodMetricsInfo, time.Time, error) {
	panic("no resource is asked for")
}

func (w *world) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, time.Time, error) {
	panic("no object is asked for")
}

func (w *world) GetRawMetric(string, string, labels.Selector, labels.Selector) (metrics.PodMetricsInfo, time.Time, error) {
	w.Lock()
	defer w.Unlock()
	// The controller writes into what it is given.
	given := metrics.PodMetricsInfo{}
	for name, value := range w.values {
		given[name] = value
	}
	return given, time.Now(), nil
}

func (w *world) GetExternalMetric(string, string, labels.Selector) ([]int64, time.Time, error) {
	w.Lock()
	defer w.Unlock()
	return []int64{w.external}, time.Now(), nil
}

// scales answers for the deployment.
func (w *world) scales() *scalefake.FakeScaleClient {
	client := &scalefake.FakeScaleClient{}
	client.AddReactor("get", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		w.Lock()
		defer w.Unlock()
		return true, &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: deployment, Namespace: namespace},
			Spec:       autoscalingv1.ScaleSpec{Replicas: w.current},
			Status:     autoscalingv1.ScaleStatus{Replicas: w.status, Selector: "app=" + deployment},
		}, nil
	})
	client.AddReactor("update", "deployments", func(action clienttesting.Action) (bool, runtime.Object, error) {
		w.Lock()
		defer w.Unlock()
		scale := action.(clienttesting.UpdateAction).GetObject().(*autoscalingv1.Scale)
		w.current = scale.Spec.Replicas
		w.updates++
		return true, scale, nil
	})
	return client
}

// podInformer is synced, and lists the pods of the test.
type podInformer struct {
	coreinformers.PodInformer
	pods cache.Indexer
}

func (p podInformer) Lister() corelisters.PodLister { return corelisters.NewPodLister(p.pods) }

func pod(name string, phase corev1.PodPhase) *corev1.Pod {
	ready := corev1.ConditionFalse
	if phase == corev1.PodRunning {
		ready = corev1.ConditionTrue
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": deployment}},
		Status:     corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

// see puts before the controller what the simulator's HPA saw.
func (w *world) see(t *testing.T, seen sync, pods cache.Indexer) {
	t.Helper()
	w.Lock()
	defer w.Unlock()
	w.current, w.status, w.external = seen.Current, seen.Pods, seen.Value
	w.values = metrics.PodMetricsInfo{}
	var all []any
	for i := range seen.Measured {
		name := "measured-" + strconv.Itoa(int(i))
		all = append(all, pod(name, corev1.PodRunning))
		// Only the sum counts.
		value := seen.Value / int64(seen.Measured)
		if int64(i) < seen.Value%int64(seen.Measured) {
			value++
		}
		w.values[name] = metrics.PodMetric{Value: value, Timestamp: time.Now()}
	}
	for i := range seen.Missing {
		all = append(all, pod("missing-"+strconv.Itoa(int(i)), corev1.PodRunning))
	}
	for i := range seen.Pending {
		all = append(all, pod("pending-"+strconv.Itoa(int(i)), corev1.PodPending))
	}
	if err := pods.Replace(all, ""); err != nil {
		t.Fatal(err)
	}
}

func (r *rules) kubernetes() *autoscalingv2.HPAScalingRules {
	selected := map[string]autoscalingv2.ScalingPolicySelect{
		"max": autoscalingv2.MaxChangePolicySelect, "min": autoscalingv2.MinChangePolicySelect, "disabled": autoscalingv2.DisabledPolicySelect,
	}[r.Select]
	made := &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &r.Window, SelectPolicy: &selected}
	for kind, value := range map[autoscalingv2.HPAScalingPolicyType]int32{
		autoscalingv2.PodsScalingPolicy: r.Pods, autoscalingv2.PercentScalingPolicy: r.Percent,
	} {
		if value > 0 {
			made.Policies = append(made.Policies, autoscalingv2.HPAScalingPolicy{Type: kind, Value: value, PeriodSeconds: r.Period})
		}
	}
	return made
}

// object is the HPA that Knative's class makes, or the one that KEDA makes.
func object(o outcome) *autoscalingv2.HorizontalPodAutoscaler {
	target := resource.NewQuantity(int64(o.Autoscaling.Target), resource.DecimalSI)
	aim := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: target}
	identifier := autoscalingv2.MetricIdentifier{Name: metric}
	spec := autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: identifier, Target: aim}}
	if o.Scaler == "keda" {
		spec = autoscalingv2.MetricSpec{
			Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{Metric: identifier, Target: aim},
		}
	}
	made := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: deployment, Namespace: namespace},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: deployment},
			MaxReplicas:    math.MaxInt32,
			Metrics:        []autoscalingv2.MetricSpec{spec},
		},
	}
	if o.Autoscaling.MaxScale > 0 {
		made.Spec.MaxReplicas = o.Autoscaling.MaxScale
	}
	if o.Autoscaling.MinScale > 0 {
		made.Spec.MinReplicas = &o.Autoscaling.MinScale
	}
	if o.HPA.Up != nil && o.HPA.Down != nil {
		made.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: o.HPA.Up.kubernetes(), ScaleDown: o.HPA.Down.kubernetes()}
	}
	autoscalingdefaults.SetDefaults_HorizontalPodAutoscaler(made)
	return made
}

// compare runs the controller through the syncs of an outcome.
func compare(t *testing.T, o outcome) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		w := &world{}
		client := fake.NewSimpleClientset(object(o))
		factory := informers.NewSharedInformerFactory(client, 0)
		pods := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
		mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "apps", Version: "v1"}})
		mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, meta.RESTScopeNamespace)
		controller := podautoscaler.NewHorizontalController(ctx, client.CoreV1(), w.scales(), client.AutoscalingV2(), mapper, w,
			factory.Autoscaling().V2().HorizontalPodAutoscalers(), podInformer{factory.Core().V1().Pods(), pods},
			time.Duration(o.HPA.SyncPeriod)*time.Second, time.Duration(o.HPA.Downscale)*time.Second, o.HPA.Tolerance, 5*time.Minute, 30*time.Second)
		factory.Start(ctx.Done())
		done := make(chan struct{})
		go func() {
			controller.Run(ctx, 1)
			close(done)
		}()
		defer func() {
			cancel()
			<-done
			factory.Shutdown()
		}()

		var before *sync
		for _, seen := range o.Syncs {
			if before != nil && before.Desired != seen.Current {
				t.Fatalf("at %v s there are %d replicas, and %d were asked for before", seen.T, seen.Current, before.Desired)
			}
			before = &seen
			if seen.By != "hpa" {
				continue
			}
			at := begin.Add(time.Duration(seen.T * float64(time.Second)))
			// Half a second before the sync, until half a second after it.
			time.Sleep(time.Until(at) - 500*time.Millisecond)
			w.see(t, seen, pods)
			time.Sleep(time.Second)
			synctest.Wait()
			w.Lock()
			wanted := w.current
			w.Unlock()
			if wanted != seen.Desired {
				t.Fatalf("%s at %v s: Kubernetes wants %d, the simulator %d: %+v", o.Scaler, seen.T, wanted, seen.Desired, seen)
			}
		}
		w.Lock()
		defer w.Unlock()
		if w.updates == 0 {
			t.Fatal("the controller has never scaled")
		}
	})
}
