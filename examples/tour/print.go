package main

import (
	"fmt"
	"strings"
	"time"
)

// heading starts a section, and shows it before the work begins.
func (t *tour) heading(number int, title string) error {
	fmt.Fprintf(t.out, "\n%2d. %s\n", number, title)
	return t.out.Flush()
}

// line prints one line of a section.
func (t *tour) line(format string, args ...any) {
	fmt.Fprintf(t.out, "    "+format+"\n", args...)
}

// timed prints one line with the time since begin at its end.
func (t *tour) timed(begin time.Time, format string, args ...any) {
	t.line("%-62s %10v", fmt.Sprintf(format, args...), short(time.Since(begin)))
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// short rounds a duration to three digits.
func short(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
