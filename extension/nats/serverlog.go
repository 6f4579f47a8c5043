package nats

import (
	"fmt"
	"log/slog"
)

// serverLog is a logger of nats-server. It is silent without a logger.
type serverLog struct {
	to    *slog.Logger
	fatal chan string // gets why the server cannot start
}

func (l serverLog) Noticef(format string, v ...any) { l.log((*slog.Logger).Info, format, v) }
func (l serverLog) Warnf(format string, v ...any)   { l.log((*slog.Logger).Warn, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.log((*slog.Logger).Error, format, v) }
func (l serverLog) Debugf(format string, v ...any)  { l.log((*slog.Logger).Debug, format, v) }
func (l serverLog) Tracef(format string, v ...any)  { l.log((*slog.Logger).Debug, format, v) }

// Fatalf is what nats-server says before it ends the process, which it does not do here.
func (l serverLog) Fatalf(format string, v ...any) {
	l.Errorf(format, v...)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

func (l serverLog) log(at func(*slog.Logger, string, ...any), format string, v []any) {
	if l.to != nil {
		at(l.to, fmt.Sprintf(format, v...))
	}
}
