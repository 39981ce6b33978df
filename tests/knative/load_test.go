package knative

// Load that is in flight for a known time: each request's last bytes follow its first ones that much later.

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

const predict = "/v1/models/flowers-sample:predict"

// The first part of a request must be larger than the buffers of everything on the way, so that its headers go out
// before the wait.
const padding = 32 << 10

// prediction is the body of a request to the flowers model, with blanks before its last byte.
func prediction(t *testing.T) []byte {
	t.Helper()
	picture, err := os.ReadFile("../../deploy/models/flowers/warmup/image_bytes.jpg")
	if err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(picture)
	blanks := bytes.Repeat([]byte(" "), padding)
	return fmt.Appendf(nil, `{"instances":[{"image_bytes":{"b64":"%s"},"key":"1"}]%s}`, encoded, blanks)
}

// slow is a body whose last byte comes after a while.
type slow struct {
	body  []byte
	at    int
	hold  time.Duration
	begin time.Time
}

func (s *slow) Read(into []byte) (int, error) {
	switch last := len(s.body) - 1; {
	case s.at < last:
		n := copy(into, s.body[s.at:last])
		s.at += n
		return n, nil
	case s.at == last:
		time.Sleep(time.Until(s.begin.Add(s.hold)))
		s.at++
		into[0] = s.body[last]
		return 1, nil
	default:
		return 0, io.EOF
	}
}

// load is a number of workers, each with one request in flight after the other.
type load struct {
	client *http.Client
	target func() string
	body   []byte
	hold   time.Duration

	stops   []context.CancelFunc
	workers sync.WaitGroup

	mutex    sync.Mutex
	answered int
	longest  time.Duration
	failures []string
}

func newLoad(t *testing.T, target func() string, hold time.Duration, h2c bool) *load {
	t.Helper()
	var transport http.RoundTripper = &http.Transport{MaxIdleConnsPerHost: 1000}
	if h2c {
		transport = &http2.Transport{
			AllowHTTP: true,
			DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, address)
			},
		}
	}
	l := &load{
		client: &http.Client{Transport: transport, Timeout: limit},
		target: target, body: prediction(t), hold: hold,
	}
	t.Cleanup(func() { l.scale(0); l.workers.Wait() })
	return l
}

// scale changes the number of workers; the ones that leave finish their request.
func (l *load) scale(workers int) {
	for ; len(l.stops) > workers; l.stops = l.stops[:len(l.stops)-1] {
		l.stops[len(l.stops)-1]()
	}
	for len(l.stops) < workers {
		ctx, cancel := context.WithCancel(context.Background())
		l.stops = append(l.stops, cancel)
		l.workers.Add(1)
		// Spread over the time of one request: load comes from clients that do not know each other.
		delay := l.hold * time.Duration(len(l.stops)%10) / 10
		go func() {
			defer l.workers.Done()
			time.Sleep(delay)
			for ctx.Err() == nil {
				l.count(l.request(l.hold))
			}
		}()
	}
}

func (l *load) count(took time.Duration, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.answered++
	l.longest = max(l.longest, took)
	if err != nil {
		l.failures = append(l.failures, fmt.Sprintf("%s after %v: %v", time.Now().Format("15:04:05.000"), took, err))
	}
}

// request sends one request and reads its answer; anything but a prediction is an error.
func (l *load) request(hold time.Duration) (time.Duration, error) {
	begin := time.Now()
	request, err := http.NewRequest(http.MethodPost, l.target()+predict, &slow{body: l.body, hold: hold, begin: begin})
	if err != nil {
		return 0, err
	}
	request.ContentLength = int64(len(l.body))
	response, err := l.client.Do(request)
	if err != nil {
		return time.Since(begin), err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && (response.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"predictions"`))) {
		err = fmt.Errorf("%s from %s: %.300s", response.Status, request.URL.Host, text)
	}
	return time.Since(begin), err
}

// end stops all workers and fails the test when a request was lost.
func (l *load) end(t *testing.T) (answered int, longest time.Duration) {
	t.Helper()
	l.scale(0)
	l.workers.Wait()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, failure := range l.failures[:min(len(l.failures), 10)] {
		t.Errorf("a request was lost: %s", failure)
	}
	if len(l.failures) > 10 {
		t.Errorf("%d requests were lost in all", len(l.failures))
	}
	return l.answered, l.longest
}
