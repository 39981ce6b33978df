package knative

// Pods as Kubernetes would show them: a process on an address of the loopback, a Pod, and a line of the Endpoints.

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"knative.dev/serving/pkg/apis/serving"
	"knative.dev/serving/pkg/networking"
)

const (
	namespace = "default"
	revision  = "flowers-00001"
	service   = "flowers"
)

// The labels by which Knative's code finds what belongs to a revision.
func labels() map[string]string {
	return map[string]string{
		serving.RevisionLabelKey:      revision,
		serving.RevisionUID:           "1",
		serving.ConfigurationLabelKey: service,
		serving.ServiceLabelKey:       service,
	}
}

// runner starts and ends what runs in a pod.
type runner interface {
	// start returns when the pod is ready.
	start(name, ip string) (running, error)
	// port is where the pod takes requests.
	port() int32
}

type running interface {
	// stop is what a kubelet does when the pod is deleted; it returns when the pod is gone.
	stop() error
}

type pod struct {
	name, ip string
	ready    bool
	running  running
}

// pods is a Deployment, its kubelets, and the Endpoints controller.
type pods struct {
	t      *testing.T
	client *fake.Clientset
	subnet int
	runner runner
	// protocol is the name of the port: http, or http2 for h2c.
	protocol string

	mutex    sync.Mutex
	all      []*pod
	made     int
	most     int
	turn     atomic.Uint64
	stopping sync.WaitGroup
}

var subnets atomic.Int32

func newPods(t *testing.T, client *fake.Clientset, runner runner, protocol string) *pods {
	t.Helper()
	p := &pods{t: t, client: client, runner: runner, protocol: protocol, subnet: int(subnets.Add(1))}
	endpoints := p.endpoints()
	if _, err := client.CoreV1().Endpoints(namespace).Create(t.Context(), endpoints, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.scale(0); p.stopping.Wait() })
	return p
}

// address is one of this scenario's own: no two scenarios share an address and a port.
func (p *pods) address(host int) string { return fmt.Sprintf("127.77.%d.%d", p.subnet, host) }

// scale starts and stops pods until there are so many. The youngest go first, as a Deployment chooses.
func (p *pods) scale(want int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for len(p.all) < want {
		p.made++
		one := &pod{name: fmt.Sprintf("%s-deployment-%d", revision, p.made), ip: p.address(9 + p.made)}
		p.all = append(p.all, one)
		p.publish(one)
		go p.run(one)
	}
	for len(p.all) > want {
		one := p.all[len(p.all)-1]
		p.all = p.all[:len(p.all)-1]
		one.ready = false
		_ = p.client.CoreV1().Pods(namespace).Delete(context.Background(), one.name, metav1.DeleteOptions{})
		p.stopping.Add(1)
		go func() {
			defer p.stopping.Done()
			p.mutex.Lock()
			started := one.running
			one.running = nil
			p.mutex.Unlock()
			if started == nil {
				return
			}
			if err := started.stop(); err != nil {
				p.t.Errorf("%s: %v", one.name, err)
			}
		}()
	}
	p.most = max(p.most, len(p.all))
	p.update()
}

func (p *pods) run(one *pod) {
	started, err := p.runner.start(one.name, one.ip)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if err != nil {
		p.t.Errorf("%s: %v", one.name, err)
		return
	}
	if !slices.Contains(p.all, one) {
		// Deleted before it was ready.
		p.stopping.Add(1)
		go func() {
			defer p.stopping.Done()
			_ = started.stop()
		}()
		return
	}
	one.running, one.ready = started, true
	p.publish(one)
	p.update()
}

// publish writes the Pod as it stands.
func (p *pods) publish(one *pod) {
	status := corev1.ConditionFalse
	if one.ready {
		status = corev1.ConditionTrue
	}
	now := metav1.Now()
	object := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: one.name, Labels: labels()},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: one.ip, StartTime: &now,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}},
		},
	}
	api := p.client.CoreV1().Pods(namespace)
	if _, err := api.Create(context.Background(), object, metav1.CreateOptions{}); err != nil {
		if before, err := api.Get(context.Background(), one.name, metav1.GetOptions{}); err == nil {
			object.Status.StartTime = before.Status.StartTime
		}
		if _, err := api.Update(context.Background(), object, metav1.UpdateOptions{}); err != nil {
			p.t.Errorf("%s: %v", one.name, err)
		}
	}
}

func (p *pods) endpoints() *corev1.Endpoints {
	object := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: revision + "-private", Labels: labels()}}
	object.Labels[networking.ServiceTypeKey] = string(networking.ServiceTypePrivate)
	var addresses []corev1.EndpointAddress
	for _, one := range p.all {
		if one.ready {
			addresses = append(addresses, corev1.EndpointAddress{IP: one.ip})
		}
	}
	if len(addresses) > 0 {
		ports := []corev1.EndpointPort{{Name: p.protocol, Port: p.runner.port()}}
		object.Subsets = []corev1.EndpointSubset{{Addresses: addresses, Ports: ports}}
	}
	return object
}

func (p *pods) update() {
	if _, err := p.client.CoreV1().Endpoints(namespace).Update(context.Background(), p.endpoints(), metav1.UpdateOptions{}); err != nil {
		p.t.Errorf("endpoints: %v", err)
	}
}

func (p *pods) ready() (ready []string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, one := range p.all {
		if one.ready {
			ready = append(ready, one.ip)
		}
	}
	return ready
}

func (p *pods) count() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.all)
}

// next is the pod whose turn it is, as an ingress takes them; empty when none is ready.
func (p *pods) next() string {
	ready := p.ready()
	if len(ready) == 0 {
		return ""
	}
	return fmt.Sprintf("http://%s:%d", ready[p.turn.Add(1)%uint64(len(ready))], p.runner.port())
}

// bare runs the server alone in its pod, with its own statistics where queue-proxy's would be.
type bare struct {
	t     *testing.T
	path  string
	cache string
}

func newBare(t *testing.T) *bare { return &bare{t: t, path: corymb(t), cache: t.TempDir()} }

func (*bare) port() int32 { return 8080 }

func (b *bare) start(name, ip string) (running, error) {
	// Without queue-proxy nobody waits for the endpoints to change but the server itself.
	command := exec.Command(b.path, "serve", "--host", ip, "--port", "8080", "--drain-delay", "1s",
		"--knative-stats", fmt.Sprintf("%s:%d", ip, networking.AutoscalingQueueMetricsPort))
	command.Env = []string{"POD_NAME=" + name, "XDG_CACHE_HOME=" + b.cache}
	log := &bytes.Buffer{}
	command.Stdout, command.Stderr = log, log
	if err := spawn(command); err != nil {
		return nil, err
	}
	process := &process{command: command, log: log}
	if err := until(func() bool { return listening(ip + ":8080") }); err != nil {
		_ = process.stop()
		return nil, fmt.Errorf("not ready: %w\n%s", err, log)
	}
	return process, nil
}

type process struct {
	command *exec.Cmd
	log     *bytes.Buffer
}

func (p *process) stop() error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if !ended(p.command, limit) {
		return fmt.Errorf("SIGTERM did not end it\n%s", p.log)
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("it ended with %d\n%s", code, p.log)
	}
	return nil
}

func sleepToMidSecond() {
	now := time.Now()
	time.Sleep(now.Truncate(time.Second).Add(1500 * time.Millisecond).Sub(now))
}
