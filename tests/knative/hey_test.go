package knative

// hey, the load generator of KFServing's pages: run as they run it, its summary read.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// heard is what hey's summary says.
type heard struct {
	text                    string
	total, slowest, average time.Duration
	median, ninetyNine      time.Duration
	rate                    float64
	statuses                map[int]int
	errors                  bool
	command                 string
}

// all200 is whether there were answers, and nothing but good ones.
func (h heard) all200() bool {
	return h.answered() > 0 && len(h.statuses) == 1 && h.statuses[200] > 0 && !h.errors
}

func (h heard) answered() (all int) {
	for _, count := range h.statuses {
		all += count
	}
	return all
}

func (h heard) outcome() string {
	if h.all200() {
		return fmt.Sprintf("%d, all 200", h.answered())
	}
	return fmt.Sprintf("%d, NOT all 200: %v, errors: %v", h.answered(), h.statuses, h.errors)
}

var (
	heyLine   = regexp.MustCompile(`(?m)^\s+(Total|Slowest|Average|Requests/sec):\s+([0-9.]+)`)
	heyShare  = regexp.MustCompile(`(?m)^\s+(50|99)% in ([0-9.]+) secs`)
	heyStatus = regexp.MustCompile(`(?m)^\s+\[(\d{3})\]\s+(\d+) responses`)
)

func readHey(text string) heard {
	h := heard{text: text, statuses: map[int]int{}, errors: strings.Contains(text, "Error distribution")}
	times := map[string]*time.Duration{
		"Total": &h.total, "Slowest": &h.slowest, "Average": &h.average, "50": &h.median, "99": &h.ninetyNine,
	}
	for _, found := range append(heyLine.FindAllStringSubmatch(text, -1), heyShare.FindAllStringSubmatch(text, -1)...) {
		value, _ := strconv.ParseFloat(found[2], 64)
		if into := times[found[1]]; into != nil {
			*into = time.Duration(value * float64(time.Second))
		} else {
			h.rate = value
		}
	}
	for _, found := range heyStatus.FindAllStringSubmatch(text, -1) {
		status, _ := strconv.Atoi(found[1])
		h.statuses[status], _ = strconv.Atoi(found[2])
	}
	return h
}

// needHey skips a test that calls the program where it is missing.
func needHey(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("hey"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("hey is missing")
		}
		t.Skip("skipped: hey is not on the path (Debian's package hey)")
	}
}

// runHey has a reader run the document's command until hey ends or the context does.
func runHey(ctx context.Context, r *reader, command string) (heard, error) {
	text, err := r.run(ctx, command)
	if err != nil {
		return heard{}, err
	}
	h := readHey(text)
	h.command = strings.TrimSpace(command)
	return h, nil
}

// heyFlags are those that say how much load it is.
var heyFlags = regexp.MustCompile(`hey (-z .*?) -m POST`)

func TestHeysSummaryIsRead(t *testing.T) {
	text := "\nSummary:\n  Total:\t30.0193 secs\n  Slowest:\t10.1458 secs\n  Fastest:\t0.0127 secs\n  Average:\t0.0364 secs\n" +
		"  Requests/sec:\t137.4449\n\nLatency distribution:\n  50% in 0.0199 secs\n  99% in 0.1501 secs\n\n" +
		"Details (average, fastest, slowest):\n  resp wait:\t0.0360 secs, 0.0125 secs, 9.9791 secs\n\n" +
		"Status code distribution:\n  [200]\t4126 responses\n"
	h := readHey(text)
	if h.slowest != 10145800*time.Microsecond || h.average != 36400*time.Microsecond || h.rate != 137.4449 ||
		h.median != 19900*time.Microsecond || h.ninetyNine != 150100*time.Microsecond || h.outcome() != "4126, all 200" {
		t.Errorf("%+v", h)
	}
	if bad := readHey(text + "  [503]\t2 responses\n"); bad.all200() || bad.answered() != 4128 {
		t.Errorf("a 503 is not a 200: %+v", bad)
	}
	if bad := readHey(text + "\nError distribution:\n  [1]\tPost: EOF\n"); bad.all200() {
		t.Errorf("a lost request is not a 200: %+v", bad)
	}
	if readHey("").all200() {
		t.Error("no answer is not all 200")
	}
}
