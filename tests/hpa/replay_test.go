// Package hpa holds the simulator's HPA against Kubernetes' own: the controller of kube-controller-manager runs in a bubble of
// virtual time (testing/synctest), is given at every sync what `corymb simulate --json` says that the HPA saw, and must ask for the
// replicas that the simulator asked for.
//
// `cargo build --release --bin corymb` makes the binary; CORYMB_BINARY names another.
package hpa

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// rules is one direction of a behavior.
type rules struct {
	Window  int32  `json:"stabilization_window"`
	Pods    int32  `json:"pods"`
	Percent int32  `json:"percent"`
	Period  int32  `json:"period"`
	Select  string `json:"select_policy"`
}

// outcome is the part of a simulation that is compared.
type outcome struct {
	Scaler      string `json:"scaler"`
	Autoscaling struct {
		Target   float64 `json:"target"`
		MinScale int32   `json:"min_scale"`
		MaxScale int32   `json:"max_scale"`
	} `json:"autoscaling"`
	HPA struct {
		SyncPeriod int     `json:"sync_period"`
		Tolerance  float64 `json:"tolerance"`
		Downscale  int     `json:"downscale_stabilization"`
		Up         *rules  `json:"scale_up"`
		Down       *rules  `json:"scale_down"`
	} `json:"hpa"`
	Syncs []sync `json:"syncs"`
}

// sync is one decision of the simulator.
type sync struct {
	T        float64 `json:"t"`
	By       string  `json:"by"`
	Current  int32   `json:"current"`
	Pods     int32   `json:"pods"`
	Measured int32   `json:"measured"`
	Missing  int32   `json:"missing"`
	Pending  int32   `json:"pending"`
	Value    int64   `json:"value"`
	Desired  int32   `json:"desired"`
}

// corymb is the binary under test. One that is missing is a failure: nobody comes here without meaning it.
func corymb(t *testing.T) string {
	t.Helper()
	found := os.Getenv("CORYMB_BINARY")
	if found == "" {
		target := os.Getenv("CARGO_TARGET_DIR")
		if target == "" {
			target = "../../target"
		}
		found = filepath.Join(target, "release", "corymb")
	}
	found, err := filepath.Abs(found)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(found); err != nil {
		t.Fatalf("%v; build it, or name it in CORYMB_BINARY", err)
	}
	return found
}

// random is a load of bursts and lulls of all lengths.
func random(seed int64) string {
	source := rand.New(rand.NewSource(seed))
	var load strings.Builder
	for second := 0.0; second < 6000; second += []float64{3, 20, 70, 200, 500}[source.Intn(5)] {
		rate := []float64{0, 2, 10, 60, 200}[source.Intn(5)] * source.Float64()
		fmt.Fprintf(&load, "%.1f,%.2f\n", second, rate)
	}
	return load.String() + "6600,0\n"
}

func TestSimulatorWantsWhatKubernetesWants(t *testing.T) {
	steps := "0,5\n300,80\n900,20\n1500,0\n2400,100\n3000,1\n4200,0\n"
	for _, c := range []struct{ name, load, flags string }{
		{"every default", steps, "--service-time 200ms --parallelism 4 --target 1 --target 3"},
		{"a slow start, bounds", random(1), "--service-time lognormal:100ms:900ms --parallelism 2 --cold-start 40s --target 1 --set max-scale=12 --set min-scale=2"},
		{"Knative's window", random(2), "--service-time 150ms --parallelism 2 --target 1 --set window=60s"},
		{"policies", random(3), "--service-time 150ms --parallelism 2 --target 1 --set hpa-scale-up-pods=2 --set hpa-scale-up-percent=0 --set hpa-scale-up-period=60s --set hpa-scale-down-percent=10 --set hpa-scale-down-pods=1 --set hpa-scale-down-period=45s --set hpa-scale-down-stabilization-window=90s"},
		{"the least of the policies, waiting up", random(4), "--service-time 150ms --parallelism 2 --target 1 --set hpa-scale-up-select-policy=min --set hpa-scale-up-stabilization-window=45s --set hpa-scale-down-select-policy=min --set hpa-scale-down-pods=3 --set hpa-scale-down-period=30s"},
		{"never down, an odd period, a wide tolerance", random(5), "--service-time 150ms --parallelism 2 --target 2 --set hpa-scale-down-select-policy=disabled --set hpa-sync-period=20s --set hpa-tolerance=0.3"},
		{"another window of the controller", random(6), "--service-time 80ms --target 1 --set hpa-downscale-stabilization=60s --set prometheus-scrape-interval=15s --set prometheus-rate-window=60s --start-replicas 9"},
		{"to zero and back", random(7), "--service-time 150ms --parallelism 2 --target 1 --set min-scale=0 --set keda-cooldown-period=60s --set keda-polling-interval=10s --cold-start 20s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			load := filepath.Join(t.TempDir(), "load.csv")
			if err := os.WriteFile(load, []byte(c.load), 0o600); err != nil {
				t.Fatal(err)
			}
			arguments := append([]string{"simulate", "--json", "--load", load, "--scaler", "hpa", "--scaler", "keda"}, strings.Fields(c.flags)...)
			output, err := exec.Command(corymb(t), arguments...).Output()
			if err != nil {
				t.Fatal(err)
			}
			var document struct{ Outcomes []outcome }
			if err := json.Unmarshal(output, &document); err != nil || len(document.Outcomes) < 2 {
				t.Fatal(err, "no outcomes")
			}
			for _, one := range document.Outcomes {
				changes := 0
				for _, sync := range one.Syncs {
					if sync.Desired != sync.Current {
						changes++
					}
				}
				// A comparison of nothing would always hold.
				if len(one.Syncs) < 50 || changes < 2 {
					t.Fatalf("%s: %d syncs with %d changes", one.Scaler, len(one.Syncs), changes)
				}
				compare(t, one)
				t.Logf("%s: %d syncs with %d changes agree", one.Scaler, len(one.Syncs), changes)
			}
		})
	}
}
