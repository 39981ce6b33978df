package knative

// One trace of requests through Knative's own statistics and through ours: the reports are the same.

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	netstats "knative.dev/networking/pkg/http/stats"
)

const (
	traces    = 500
	tolerance = 1e-6
)

var events = map[netstats.ReqEventType]string{
	netstats.ReqIn: "in", netstats.ReqOut: "out", netstats.ProxiedIn: "proxied-in", netstats.ProxiedOut: "proxied-out",
}

// trace feeds one random trace to Knative's statistics, writes it in the words of our example, and answers Knative's
// reports.
func trace(seed uint64, out *bytes.Buffer) []netstats.RequestStatsReport {
	random := rand.New(rand.NewPCG(seed, 1))
	start := time.Unix(1_700_000_000, 0)
	stats := netstats.NewRequestStats(start)
	fmt.Fprintln(out, "start")
	var reports []netstats.RequestStatsReport
	// Nanoseconds since the start. From trace to trace the pace differs: some are idle for many windows, some have
	// thousands of requests in one.
	now, next := int64(0), int64(time.Second)
	pace := math.Pow(10, 4+5*random.Float64())
	proxied := random.Float64()
	var open [2]int
	for range 200 + random.IntN(800) {
		now += int64(random.ExpFloat64() * pace)
		if random.IntN(20) == 0 {
			now = next
		}
		at := now
		switch random.IntN(10) {
		case 0: // two events at once
			at = now - now%int64(time.Millisecond)
		case 1: // two threads read the clock in one order and came in the other
			at = max(0, now-random.Int64N(int64(time.Millisecond)))
		}
		for ; now >= next; next += int64(time.Second) {
			// A ticker is late at times.
			late := next + random.Int64N(int64(20*time.Millisecond))
			reports = append(reports, stats.Report(start.Add(time.Duration(late))))
			fmt.Fprintln(out, late, "report")
		}
		kind := netstats.ReqIn
		which := 0
		if random.Float64() < proxied {
			kind, which = netstats.ProxiedIn, 1
		}
		if open[which] > 0 && random.IntN(1+open[which]) > random.IntN(20) {
			kind++ // the end of such a request
			open[which]--
		} else {
			open[which]++
		}
		stats.HandleEvent(netstats.ReqEvent{Time: start.Add(time.Duration(at)), Type: kind})
		fmt.Fprintln(out, at, events[kind])
	}
	return reports
}

func TestOurStatisticsAreKnatives(t *testing.T) {
	if netstats.ReqOut != netstats.ReqIn+1 || netstats.ProxiedOut != netstats.ProxiedIn+1 {
		t.Fatal("an end no longer follows its begin in the list of events")
	}
	var input bytes.Buffer
	var expected []netstats.RequestStatsReport
	for seed := range uint64(traces) {
		expected = append(expected, trace(seed, &input)...)
	}
	replay := exec.Command(replayer(t))
	replay.Stdin = &input
	output, err := replay.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if len(lines) != len(expected) {
		t.Fatalf("%d reports; Knative made %d", len(lines), len(expected))
	}
	same, worst, busy := 0, 0.0, 0
	for i, line := range lines {
		var seen netstats.RequestStatsReport
		_, err := fmt.Sscan(line, &seen.AverageConcurrency, &seen.AverageProxiedConcurrency, &seen.RequestCount,
			&seen.ProxiedRequestCount)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		want := expected[i]
		if seen == want {
			same++
		}
		if want.AverageConcurrency > 0 {
			busy++
		}
		off := max(math.Abs(seen.AverageConcurrency-want.AverageConcurrency),
			math.Abs(seen.AverageProxiedConcurrency-want.AverageProxiedConcurrency))
		worst = max(worst, off)
		if off > tolerance || seen.RequestCount != want.RequestCount || seen.ProxiedRequestCount != want.ProxiedRequestCount {
			t.Errorf("report %d: %+v; Knative's is %+v", i, seen, want)
		}
	}
	if busy < len(expected)/2 {
		t.Errorf("only %d of %d windows had a request in flight: the traces prove little", busy, len(expected))
	}
	t.Logf("%d traces, %d reports, %d of them the same to the last bit, the largest difference %g",
		traces, len(expected), same, worst)
}
