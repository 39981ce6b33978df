package main

import (
	"context"
	"os"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// linesConfig names the file that lines are appended to.
type linesConfig struct {
	Path string `mapstructure:"path"`
}

// One lock for all signals: their lines must not mix.
var writing sync.Mutex

func (c *linesConfig) write(line []byte, err error) error {
	if err != nil {
		return err
	}
	writing.Lock()
	defer writing.Unlock()
	file, err := os.OpenFile(c.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

func newLinesFactory() exporter.Factory {
	level := component.StabilityLevelDevelopment
	return exporter.NewFactory(
		component.MustNewType("lines"),
		func() component.Config { return &linesConfig{} },
		exporter.WithTraces(func(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Traces, error) {
			lines, marshaler := config.(*linesConfig), &ptrace.JSONMarshaler{}
			return exporterhelper.NewTraces(ctx, set, config, func(_ context.Context, batch ptrace.Traces) error {
				return lines.write(marshaler.MarshalTraces(batch))
			})
		}, level),
		exporter.WithMetrics(func(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Metrics, error) {
			lines, marshaler := config.(*linesConfig), &pmetric.JSONMarshaler{}
			return exporterhelper.NewMetrics(ctx, set, config, func(_ context.Context, batch pmetric.Metrics) error {
				return lines.write(marshaler.MarshalMetrics(batch))
			})
		}, level),
		exporter.WithLogs(func(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Logs, error) {
			lines, marshaler := config.(*linesConfig), &plog.JSONMarshaler{}
			return exporterhelper.NewLogs(ctx, set, config, func(_ context.Context, batch plog.Logs) error {
				return lines.write(marshaler.MarshalLogs(batch))
			})
		}, level),
	)
}
