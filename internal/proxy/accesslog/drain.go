package accesslog

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// batchBytes is how much of one ring is worked on at a time.
	batchBytes = 256 << 10
	// writeBytes is about how much goes into the file with one write.
	writeBytes = 64 << 10
	// tendEvery is how often files are looked at for their age.
	tendEvery = time.Minute
)

// drain is the log goroutine: it empties the rings, forms the lines and hands
// them on. All its fields are its own.
type drain struct {
	log      *Log
	location *time.Location
	sink     sink // nil = none
	targets  []*target
	leaving  []*target // were configured away and may still send what they have
	ended    bool

	batch   []byte // frames that were taken from a ring
	out     []byte // lines for the sink, each with its line break
	line    []byte // the present line
	entry   decoded
	failing bool // the sink's last write failed
}

func newDrain(g *Log) *drain {
	return &drain{log: g, batch: make([]byte, 0, batchBytes), out: make([]byte, 0, writeBytes+maxFrame)}
}

func (d *drain) run() {
	defer close(d.log.done)
	tend := time.NewTicker(tendEvery)
	defer tend.Stop()
	gather := time.NewTimer(0)
	defer gather.Stop()
	for !d.ended {
		if !d.sleep(tend) {
			continue
		}
		gather.Reset(d.log.options.FlushEvery)
		select {
		case <-gather.C:
		case <-d.log.urgent:
		case c := <-d.log.commands:
			c.done <- c.do(d)
		}
		if !d.ended {
			d.drainAll()
		}
	}
}

// sleep waits until a ring holds something; false = something else came and was
// done.
func (d *drain) sleep(tend *time.Ticker) bool {
	g := d.log
	g.asleep.Store(true)
	defer g.asleep.Store(false)
	if slices.ContainsFunc(d.writers(), func(w *Writer) bool { return !w.empty() }) {
		return true
	}
	select {
	case <-g.wake:
		return true
	case c := <-g.commands:
		c.done <- c.do(d)
	case <-tend.C:
		d.tend()
	}
	return false
}

// tend does what hangs on the clock.
func (d *drain) tend() {
	d.retire()
	if f, ok := d.sink.(*file); ok {
		f.tend()
	}
	d.leaving = slices.DeleteFunc(d.leaving, func(t *target) bool {
		select {
		case <-t.done:
			return true
		default:
			return false
		}
	})
}

// writers are those of this moment; the slice is not changed later.
func (d *drain) writers() []*Writer {
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	return slices.Clip(d.log.writers)
}

// retire forgets writers that were closed and are empty.
func (d *drain) retire() {
	g := d.log
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := make([]*Writer, 0, len(g.writers))
	for _, w := range g.writers {
		if w.closed.Load() && w.empty() && !g.closed {
			g.gone.Appended += w.appends.Load()
			g.gone.Dropped += w.dropped.Load()
			continue
		}
		kept = append(kept, w)
	}
	g.writers = kept
}

// drainAll hands on what was in the rings when it was called.
func (d *drain) drainAll() {
	for _, w := range d.writers() {
		for end := w.head.Load(); w.tail.Load() < end; {
			d.batch = w.take(d.batch[:0])
			d.log.memory.add(d.batch)
			d.hand(d.batch)
		}
	}
	d.write()
	for _, t := range d.targets {
		t.kick()
	}
}

// hand forms a line for each frame and hands it to the sink and the targets.
func (d *drain) hand(frames []byte) {
	for len(frames) > 0 {
		n := binary.LittleEndian.Uint32(frames)
		decodeFrame(frames[:n], &d.entry)
		frames = frames[n:]
		if d.entry.format == MemoryOnly {
			continue
		}
		d.form()
		if d.sink != nil {
			d.out = append(append(d.out, d.line...), '\n')
			if len(d.out) >= writeBytes {
				d.write()
			}
		}
		for _, t := range d.targets {
			t.enqueue(d.line, &d.entry.Record)
		}
	}
}

// form makes the line. What was to be redacted was redacted by the loop.
func (d *drain) form() {
	r := &d.entry.Record
	if d.entry.format == HTTPLog {
		r.Wall = r.Wall.In(d.location)
		d.line = AppendHTTPLog(d.line[:0], r, false)
		return
	}
	d.line = AppendJSON(d.line[:0], r, false)
	if d.entry.cut {
		d.line = append(d.line[:len(d.line)-1], `,"cut":true}`...)
	}
}

// write empties d.out into the sink, and counts what the sink didn't take.
func (d *drain) write() {
	if len(d.out) == 0 {
		return
	}
	g := d.log
	n, err := d.sink.write(d.out)
	written := bytes.Count(d.out[:n], []byte{'\n'})
	lost := bytes.Count(d.out[n:], []byte{'\n'})
	d.out = d.out[:0]
	g.counts.written.Add(uint64(written))
	g.counts.bytes.Add(uint64(n))
	g.counts.lost.Add(uint64(lost))
	if failing := err != nil; failing != d.failing {
		d.failing = failing
		g.counts.failing.Store(failing)
		g.options.Report("file", err)
	}
}

func (d *drain) configure(o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	next, err := d.nextSink(o.Sink)
	if err != nil {
		return err
	}
	d.drainAll() // what was logged under the old state goes where that says
	if f, ok := d.sink.(*file); ok && next != sink(f) {
		_ = f.close() // every write told of its own failure
	}
	d.sink = next
	d.location = o.Location
	if d.location == nil {
		d.location = time.UTC
	}
	var ended []*target
	d.targets, ended = d.nextTargets(o.Targets)
	d.log.mu.Lock()
	d.log.targets = d.targets
	d.log.mu.Unlock()
	for _, t := range ended {
		t.end() // says so and does not wait: a target that is away must not stop the log
	}
	d.leaving = append(d.leaving, ended...)
	return nil
}

// nextTargets keeps what stays the same, with its connection and queue.
func (d *drain) nextTargets(want []Target) (next, ended []*target) {
	left := slices.Clone(d.targets)
	for _, w := range want {
		i := slices.IndexFunc(left, func(t *target) bool { return t.Target == w })
		if i >= 0 {
			next = append(next, left[i])
			left = slices.Delete(left, i, i+1)
			continue
		}
		next = append(next, startTarget(w, &d.log.options))
	}
	return next, left
}

// nextSink opens what the settings say; the present sink where nothing changes.
func (d *drain) nextSink(s Sink) (sink, error) {
	switch {
	case s.Path != "":
		if f, ok := d.sink.(*file); ok && f.Path == s.Path {
			f.Sink = s.withDefaults()
			return f, nil
		}
		return openFile(s, d.log.options.Now, &d.log.counts.rotations)
	case s.Writer != nil:
		return writerSink{s.Writer}, nil
	}
	return nil, nil
}

func (d *drain) reopen() error {
	d.drainAll()
	if f, ok := d.sink.(*file); ok {
		return f.reopen()
	}
	return nil
}

func (d *drain) close() error {
	d.ended = true
	d.drainAll()
	var err error
	if f, ok := d.sink.(*file); ok {
		err = f.close()
	}
	for _, t := range d.targets {
		t.end()
	}
	for _, t := range slices.Concat(d.targets, d.leaving) {
		<-t.done
	}
	d.log.memory.close()
	return err
}

// counters are written by the log goroutine and read by any.
type counters struct {
	written, lost, bytes, rotations atomic.Uint64
	failing                         atomic.Bool
}

// Stats are the counters of a log.
type Stats struct {
	WriterStats
	// Written lines went into the file or writer, Lost ones it did not take.
	Written, Lost uint64
	// Bytes went into it.
	Bytes uint64
	// Rotations of the file.
	Rotations uint64
	// Failing = the last write failed.
	Failing bool
	// Memory is what Recent and Follow show.
	Memory MemoryStats
	// Targets in their order.
	Targets []TargetStats
}

// Stats returns the counters.
func (g *Log) Stats() Stats {
	s := Stats{
		Written: g.counts.written.Load(), Lost: g.counts.lost.Load(), Bytes: g.counts.bytes.Load(),
		Rotations: g.counts.rotations.Load(), Failing: g.counts.failing.Load(),
		Memory: g.memory.stats(),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.WriterStats = g.gone
	for _, w := range g.writers {
		s.Appended += w.appends.Load()
		s.Dropped += w.dropped.Load()
	}
	for _, t := range g.targets {
		s.Targets = append(s.Targets, t.stats())
	}
	return s
}
