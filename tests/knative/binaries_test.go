package knative

// The binaries under test: `cargo build --release --workspace --bin corymb --example request_stats --example scaling_picture`
// makes them all.

import (
	"os"
	"path/filepath"
	"testing"
)

// binary is what the variable names, else a path below cargo's target folder. A binary that is missing is a failure:
// nobody comes here without meaning it.
func binary(t *testing.T, variable, path string) string {
	t.Helper()
	found := os.Getenv(variable)
	if found == "" {
		target := os.Getenv("CARGO_TARGET_DIR")
		if target == "" {
			target = "../../target"
		}
		found = filepath.Join(target, "release", path)
	}
	found, err := filepath.Abs(found)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(found); err != nil {
		t.Fatalf("%v; build it, or name it in %s", err, variable)
	}
	return found
}

func corymb(t *testing.T) string { return binary(t, "CORYMB_BINARY", "corymb") }

func replayer(t *testing.T) string {
	return binary(t, "CORYMB_REQUEST_STATS", "examples/request_stats")
}
