package demo

import (
	"slices"
	"sync"
	"time"
)

// window is how far back rates and latencies look.
const window = 5 * time.Second

// samples is how many measured times are kept.
const samples = 4096

// meter counts things that happen and how long each took, over the last seconds.
type meter struct {
	mu    sync.Mutex
	times [samples]sample // a ring; guarded by mu
	next  int             // where the next one goes; guarded by mu
}

type sample struct {
	at   time.Time
	took time.Duration
}

// add notes one thing that has just ended.
func (m *meter) add(took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.times[m.next%samples] = sample{time.Now(), took}
	m.next++
}

// Pace is what a meter shows: how often something happens and how long it takes.
type Pace struct {
	PerSecond float64 `json:"per_second"`
	// P50 and P99 are in milliseconds; 0 while nothing was measured.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

func (m *meter) pace() Pace {
	oldest := time.Now().Add(-window)
	var took []time.Duration
	m.mu.Lock()
	for i := range min(m.next, samples) {
		if m.times[i].at.After(oldest) {
			took = append(took, m.times[i].took)
		}
	}
	m.mu.Unlock()
	if len(took) == 0 {
		return Pace{}
	}
	slices.Sort(took)
	return Pace{
		PerSecond: float64(len(took)) / window.Seconds(),
		P50:       Milliseconds(quantile(took, 50)), P99: Milliseconds(quantile(took, 99)),
	}
}

// quantile is the nearest rank of sorted values.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max((len(sorted)*percent+99)/100-1, 0)]
}

// Milliseconds is a time as the demo shows it, to a hundredth.
func Milliseconds(d time.Duration) float64 { return float64(d.Round(10*time.Microsecond)) / 1e6 }
