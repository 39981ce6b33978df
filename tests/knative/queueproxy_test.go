package knative

// The server behind Knative's queue-proxy: probes, both HTTP versions, drain, containerConcurrency, and the numbers.

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	netheader "knative.dev/networking/pkg/http/header"
	asmetrics "knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/networking"
	"knative.dev/serving/pkg/queue"
)

// sidecar runs pods of two containers: the server and queue-proxy.
type sidecar struct {
	t           *testing.T
	path, cache string
	// model is what the server serves, in the place of the embedded one.
	model                string
	containerConcurrency int
	h2c                  bool
	// probe is the readiness probe as Knative hands it to queue-proxy.
	probe string
}

const (
	tcpProbe  = `{"tcpSocket":{"port":8080,"host":"127.0.0.1"},"successThreshold":1}`
	httpProbe = `{"httpGet":{"path":"/v2/health/ready","port":8080,"host":"127.0.0.1","scheme":"HTTP"},"successThreshold":1}`
	grpcProbe = `{"grpc":{"port":8080},"successThreshold":1,"periodSeconds":1,"timeoutSeconds":1}`
)

func newSidecar(t *testing.T, probe string) *sidecar {
	t.Helper()
	return &sidecar{t: t, path: corymb(t), cache: t.TempDir(), probe: probe}
}

func (s *sidecar) port() int32 {
	if s.h2c {
		return int32(networking.BackendHTTP2Port)
	}
	return int32(networking.BackendHTTPPort)
}

func (s *sidecar) start(name, ip string) (running, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(self)
	command.Env = []string{
		insideVariable + "=" + s.path, modelVariable + "=" + s.model, "XDG_CACHE_HOME=" + s.cache,
		fmt.Sprintf("CONTAINER_CONCURRENCY=%d", s.containerConcurrency),
		fmt.Sprintf("QUEUE_SERVING_PORT=%d", s.port()), "QUEUE_SERVING_TLS_PORT=8112", "USER_PORT=8080",
		"REVISION_TIMEOUT_SECONDS=300", "SERVING_LOGGING_CONFIG=", "SERVING_LOGGING_LEVEL=error",
		"SERVING_NAMESPACE=" + namespace, "SERVING_CONFIGURATION=" + service, "SERVING_SERVICE=" + service,
		"SERVING_REVISION=" + revision, "SERVING_POD=" + name, "SERVING_POD_IP=" + ip,
		"SERVING_READINESS_PROBE=" + s.probe,
	}
	for _, port := range insidePorts {
		listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, port))
		if err != nil {
			return nil, err
		}
		file, err := listener.(*net.TCPListener).File()
		listener.Close()
		if err != nil {
			return nil, err
		}
		defer file.Close()
		command.ExtraFiles = append(command.ExtraFiles, file)
	}
	log := &bytes.Buffer{}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = ownNetwork()
	if err := spawn(command); err != nil {
		return nil, fmt.Errorf("a network of its own: %w", err)
	}
	both := &containers{command: command, log: log, ip: ip, port: s.port()}
	if err := until(func() bool { return both.probe() == http.StatusOK }); err != nil {
		_ = command.Process.Kill()
		_ = command.Wait()
		return nil, fmt.Errorf("not ready: %w\n%s", err, log)
	}
	return both, nil
}

type containers struct {
	command *exec.Cmd
	log     *bytes.Buffer
	ip      string
	port    int32
}

// probe asks as the kubelet does for the pod; 0 without an answer.
func (c *containers) probe() int { return probe(c.ip, c.port) }

func probe(ip string, port int32) int {
	request, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s:%d/", ip, port), nil)
	if err != nil {
		return 0
	}
	request.Header.Set("User-Agent", netheader.KubeProbeUAPrefix+"1.35")
	request.Header.Set(netheader.ProbeKey, queue.Name)
	client := http.Client{Timeout: 12 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// stop follows the kubelet: SIGTERM for queue-proxy at once; the server's preStop hook, which waits for queue-proxy to
// be drained, and SIGTERM for the server only after it.
func (c *containers) stop() error {
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	client := http.Client{Timeout: 2 * limit}
	response, err := client.Get(fmt.Sprintf("http://%s:%d%s", c.ip, networking.QueueAdminPort, queue.RequestQueueDrainPath))
	if err != nil {
		return fmt.Errorf("preStop: %w\n%s", err, c.log)
	}
	response.Body.Close()
	if err := c.command.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	if !ended(c.command, limit) {
		return fmt.Errorf("the pod did not end\n%s", c.log)
	}
	if code := c.command.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the pod ended with %d\n%s", code, c.log)
	}
	return nil
}

// scrape reads a Stat as the autoscaler does.
func scrape(ip string, port int) (stat asmetrics.Stat, err error) {
	client := http.Client{Timeout: 3 * time.Second}
	request, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s:%d/metrics", ip, port), nil)
	if err != nil {
		return stat, err
	}
	request.Header.Set("Accept", netheader.ProtobufMIMEType)
	response, err := client.Do(request)
	if err != nil {
		return stat, err
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != netheader.ProtobufMIMEType {
		return stat, fmt.Errorf("%s, %q", response.Status, kind)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return stat, err
	}
	return stat, stat.Unmarshal(body)
}

// averages reads queue-proxy's and the server's Stat of some pods once a second, and answers the mean sums.
func averages(t *testing.T, ips []string, seconds int) (queueProxy, own asmetrics.Stat) {
	t.Helper()
	var mutex sync.Mutex
	for range seconds {
		next := time.Now().Add(time.Second)
		var both sync.WaitGroup
		for _, ip := range ips {
			for port, sum := range map[int]*asmetrics.Stat{networking.AutoscalingQueueMetricsPort: &queueProxy, statsPort: &own} {
				both.Add(1)
				go func() {
					defer both.Done()
					stat, err := scrape(ip, port)
					mutex.Lock()
					defer mutex.Unlock()
					if err != nil {
						t.Errorf("%s:%d: %v", ip, port, err)
						return
					}
					sum.AverageConcurrentRequests += stat.AverageConcurrentRequests / float64(seconds)
					sum.AverageProxiedConcurrentRequests += stat.AverageProxiedConcurrentRequests / float64(seconds)
					sum.RequestCount += stat.RequestCount / float64(seconds)
				}()
			}
		}
		both.Wait()
		time.Sleep(time.Until(next))
	}
	return queueProxy, own
}

func near(a, b, share float64) bool { return math.Abs(a-b) <= share*math.Max(math.Abs(a), math.Abs(b)) }

// TestQueueProxyKeepsEveryRequest lets replicas come and go under load, with the activator in front.
func TestQueueProxyKeepsEveryRequest(t *testing.T) {
	for _, c := range []struct {
		name, probe string
		h2c         bool
	}{{"HTTP/1.1, TCP probe", tcpProbe, false}, {"h2c, HTTP probe", httpProbe, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			runner := newSidecar(t, c.probe)
			runner.h2c = c.h2c
			s := startService(t, options{
				annotations: map[string]string{"target": "1", "window": short}, runner: runner, h2c: c.h2c, fixed: true,
			})
			load := newLoad(t, s.throughActivator, hold, c.h2c)
			load.scale(4)
			time.Sleep(2 * time.Second)
			for _, want := range []int{3, 1, 2} {
				s.pods.scale(want)
				if err := until(func() bool { return len(s.pods.ready()) == want }); err != nil {
					t.Fatalf("%d pods: %v", want, err)
				}
				time.Sleep(5 * time.Second)
			}
			// The pods that were let go drain for half a minute, under load.
			s.pods.stopping.Wait()
			answered, longest := load.end(t)
			row("queue-proxy, "+c.name+": 1, 3, 1, 2 pods under load", "no request lost", fmt.Sprintf("%d requests, all 200, longest %d ms", answered, longest.Milliseconds()))
		})
	}
}

// TestQueueProxyAndOurStatisticsAgree has requests arrive at two pods without the activator.
func TestQueueProxyAndOurStatisticsAgree(t *testing.T) {
	s := startService(t, options{
		annotations: map[string]string{"target": "10", "window": short, "target-burst-capacity": "0"},
		runner:      newSidecar(t, tcpProbe), fixed: true,
	})
	s.pods.scale(2)
	if err := until(func() bool { return len(s.pods.ready()) == 2 }); err != nil {
		t.Fatal(err)
	}
	ips := s.pods.ready()

	// Who only looks whether we are there is no load.
	for range 20 {
		if status := probe(ips[0], 8012); status != http.StatusOK {
			t.Errorf("the kubelet's probe: %d", status)
		}
	}
	queueProxy, own := averages(t, ips, 3)
	if queueProxy.AverageConcurrentRequests != 0 || own.AverageConcurrentRequests != 0 || own.RequestCount != 0 {
		t.Errorf("probes were counted: %+v, %+v", queueProxy, own)
	}

	load := newLoad(t, func() string { return s.pods.next() }, hold, false)
	load.scale(5)
	time.Sleep(12 * time.Second)
	from := time.Now()
	queueProxy, own = averages(t, ips, 15)
	stable, decisions := 0.0, s.scaler.since(from)
	load.end(t)
	if len(decisions) < 5 {
		t.Fatalf("%d decisions in 15 s", len(decisions))
	}
	for _, one := range decisions {
		stable += one.stable / float64(len(decisions))
	}
	if !near(stable, own.AverageConcurrentRequests, 0.02) || !near(queueProxy.AverageConcurrentRequests, own.AverageConcurrentRequests, 0.02) {
		t.Errorf("the autoscaler reads %.3f, queue-proxy says %.3f, the server says %.3f", stable,
			queueProxy.AverageConcurrentRequests, own.AverageConcurrentRequests)
	}
	if !near(queueProxy.RequestCount, own.RequestCount, 0.02) {
		t.Errorf("requests a second: queue-proxy says %.2f, the server %.2f", queueProxy.RequestCount, own.RequestCount)
	}
	row("queue-proxy and the server count 5 in flight on 2 pods", "within 2 %", fmt.Sprintf("the autoscaler reads %.3f, queue-proxy says %.3f, the server %.3f; requests a second %.2f and %.2f",
		stable, queueProxy.AverageConcurrentRequests, own.AverageConcurrentRequests, queueProxy.RequestCount, own.RequestCount))
}

// TestContainerConcurrency lets queue-proxy hold back what one request at a time is too few for.
func TestContainerConcurrency(t *testing.T) {
	runner := newSidecar(t, grpcProbe)
	runner.containerConcurrency = 1
	s := startService(t, options{
		annotations: map[string]string{"window": short, "target-burst-capacity": "0"}, containerConcurrency: 1, runner: runner, fixed: true,
	})
	load := newLoad(t, func() string { return s.pods.next() }, hold, false)
	load.scale(4)
	time.Sleep(3 * time.Second)
	queueProxy, own := averages(t, s.pods.ready(), 8)
	load.end(t)
	// What waits in queue-proxy is load for the autoscaler, and unknown to the server.
	if !near(queueProxy.AverageConcurrentRequests, 4, 0.05) || own.AverageConcurrentRequests > 1 || own.AverageConcurrentRequests < 0.8 {
		t.Errorf("queue-proxy says %.3f, the server %.3f; expected 4 and at most 1", queueProxy.AverageConcurrentRequests, own.AverageConcurrentRequests)
	}
	row("containerConcurrency 1, gRPC probe, 4 in flight", "queue-proxy counts 4, the server at most 1", fmt.Sprintf("%.3f and %.3f, all 200",
		queueProxy.AverageConcurrentRequests, own.AverageConcurrentRequests))
}

// TestTuneOfAFastModel measures a model of microseconds, alone and behind queue-proxy, which takes longer than the model does. What the
// autoscaler counts is the proxy's time, too: at a target of 1 a pod would do next to nothing.
func TestTuneOfAFastModel(t *testing.T) {
	model, err := filepath.Abs("../fixtures/models/identity_fp32.onnx")
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"--step", "2s", "--warm-up", "500ms", "--max-concurrency", "32"}
	var alone advice
	run(t, &alone, append([]string{"tune", model}, flags...)...)
	runner := newSidecar(t, httpProbe)
	runner.model = model
	ip := fmt.Sprintf("127.77.%d.1", subnets.Add(1))
	pod, err := runner.start("fast", ip)
	if err != nil {
		t.Fatal(err)
	}
	var through advice
	run(t, &through, append([]string{"tune", fmt.Sprintf("http://%s:%d", ip, runner.port()), "--proxy-time", "0s"}, flags...)...)
	if err := pod.stop(); err != nil {
		t.Error(err)
	}
	for name, told := range map[string]advice{"alone": alone, "behind queue-proxy": through} {
		if told.Recommendation == nil {
			t.Errorf("%s: nothing is recommended: %s", name, told.Rejected)
			continue
		}
		warned := slices.ContainsFunc(told.Recommendation.Warnings, func(words string) bool { return strings.Contains(words, "prox") })
		if told.Recommendation.Target < 2 || !warned {
			t.Errorf("%s: target %v, warnings %q", name, told.Recommendation.Target, told.Recommendation.Warnings)
		}
	}
	if t.Failed() {
		return
	}
	row("a model of microseconds: the target that tune recommends, measured alone and behind queue-proxy", "never 1",
		fmt.Sprintf("%v (a request takes %.2f ms), %v (%.2f ms)", alone.Recommendation.Target, alone.Recommendation.ServiceTime,
			through.Recommendation.Target, through.Recommendation.ServiceTime))
}
