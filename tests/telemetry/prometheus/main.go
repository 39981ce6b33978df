// Command prometheus is Prometheus' own receiver of OTLP, its storage and its query engine, in one process: what is pushed to
// it gets the names and labels that the `otlp` section of a configuration says. It discovers and scrapes nothing.
//
// Usage: prometheus --config FILE --address HOST:PORT --data FOLDER
package main

import (
	"encoding/json"
	"flag"
	"log"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
)

func main() {
	file := flag.String("config", "", "a configuration of Prometheus, of which the section `otlp` counts")
	address := flag.String("address", "127.0.0.1:9090", "where to listen")
	data := flag.String("data", "", "the folder of the storage")
	flag.Parse()
	if err := serve(*file, *address, *data); err != nil {
		log.Fatal(err)
	}
}

func serve(file, address, data string) error {
	logger := slog.Default()
	settings, err := config.LoadFile(file, false, logger)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	database, err := tsdb.Open(data, logger, registry, tsdb.DefaultOptions(), nil)
	if err != nil {
		return err
	}
	defer database.Close()
	engine := promql.NewEngine(promql.EngineOpts{
		Logger: logger, Reg: registry, MaxSamples: 1_000_000, Timeout: 10 * time.Second,
	})
	routes := http.NewServeMux()
	routes.Handle("POST /api/v1/otlp/v1/metrics", remote.NewOTLPWriteHandler(logger, registry, database,
		func() config.Config { return *settings }, remote.OTLPOptions{}))
	routes.HandleFunc("GET /api/v1/query", func(answer http.ResponseWriter, request *http.Request) {
		query, err := engine.NewInstantQuery(request.Context(), database, nil, request.FormValue("query"), time.Now())
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		defer query.Close()
		result := query.Exec(request.Context())
		if result.Err != nil {
			http.Error(answer, result.Err.Error(), http.StatusUnprocessableEntity)
			return
		}
		// As Prometheus' API answers.
		_ = json.NewEncoder(answer).Encode(map[string]any{
			"status": "success",
			"data":   map[string]any{"resultType": result.Value.Type(), "result": result.Value},
		})
	})
	server := http.Server{Addr: address, Handler: routes, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}
