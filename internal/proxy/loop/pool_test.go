package loop

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// countingJob counts; its fields are handed back and forth with it.
type countingJob struct{ worked, done int }

func (j *countingJob) Work() { j.worked++ }
func (j *countingJob) Done() { j.done++ }

// heldJob works until it is let go.
type heldJob struct {
	started, release chan struct{}
	done             func()
}

func newHeldJob() *heldJob {
	return &heldJob{started: make(chan struct{}), release: make(chan struct{}), done: func() {}}
}

func (j *heldJob) Work() { close(j.started); <-j.release }
func (j *heldJob) Done() { j.done() }

// TestOffloadFull: what finds the queue full is refused and counted; what is in it
// is worked on, and Done runs in the loop.
func TestOffloadFull(t *testing.T) {
	l, _ := newLoop(t)
	p := NewPool(1, 3)
	held := newHeldJob()
	if !l.Offload(p, held) {
		t.Fatal("an empty pool refused a job")
	}
	<-held.started
	// The queue may be drained by a helper of normal priority after 20 ms, so hold
	// that up too.
	second := newHeldJob()
	l.Offload(p, second)
	<-second.started
	var jobs [5]countingJob
	for i := range jobs {
		if got, want := l.Offload(p, &jobs[i]), i < 3; got != want {
			t.Errorf("job %d: Offload = %v, want %v", i, got, want)
		}
	}
	if s := p.Stats(); s.Refused != 2 || s.Waiting != 3 || s.Working != 2 || s.Overdue != 0 {
		t.Errorf("Stats = %+v, want 2 refused, 3 waiting, 2 in work", s)
	}
	close(held.release)
	close(second.release)
	p.Close() // works off what waits
	if l.Offload(p, &jobs[4]) {
		t.Error("a closed pool accepted a job")
	}
	for l.Turn(0) > 0 {
	}
	for i := range jobs {
		if want := min(1, max(0, 3-i)); jobs[i].worked != want || jobs[i].done != want {
			t.Errorf("job %d was worked on %d times and done %d times, want %d", i, jobs[i].worked, jobs[i].done, want)
		}
	}
	if s, p := l.Stats(), p.Stats(); s.JobsRefused != 3 || p.Refused != 3 || p.Done != 5 || p.Overdue == 0 {
		t.Errorf("loop refused %d, pool %+v, want 3, 3, 5 done, some overdue", s.JobsRefused, p)
	}
}

// TestOffloadStopped: a loop that is closed while its job is in work never hears
// of it, and the pool works on for others.
func TestOffloadStopped(t *testing.T) {
	p := NewPool(2, 8)
	defer p.Close()
	gone, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	held := newHeldJob()
	held.done = func() { t.Error("Done ran in a closed loop") }
	gone.Offload(p, held)
	<-held.started
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	close(held.release)
	l, _ := newLoop(t)
	var j countingJob
	l.Offload(p, &j)
	for j.done == 0 {
		l.Turn(-1)
	}
}

// TestOffloadTwoLoops: jobs of two running loops come back each to its own.
func TestOffloadTwoLoops(t *testing.T) {
	const jobs = 500
	p := NewPool(2, 16)
	defer p.Close()
	var all sync.WaitGroup
	for range 2 {
		l, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var j reposting
		j.again = func() {
			if j.done == jobs {
				l.Stop()
			} else if !l.Offload(p, &j) {
				t.Error("refused")
				l.Stop()
			}
		}
		l.Post(j.again)
		all.Go(l.Run)
		defer func() {
			if j.worked != jobs || j.done != jobs {
				t.Errorf("worked %d, done %d, want %d", j.worked, j.done, jobs)
			}
		}()
	}
	all.Wait()
}

type reposting struct {
	countingJob
	again func()
}

func (j *reposting) Done() { j.done++; j.again() }

// TestWorkersGiveWay: workers run with the lowest priority, and a job that takes
// long gets a normal one while it lasts.
func TestWorkersGiveWay(t *testing.T) {
	l, _ := newLoop(t)
	p := NewPool(1, 1)
	defer p.Close()
	thread := int(p.workers[0].thread.Load())
	for ; thread == 0; thread = int(p.workers[0].thread.Load()) {
		runtime.Gosched()
	}
	if !mayBeIdle() {
		t.Skip("platform: no thread may have the policy SCHED_IDLE here")
	}
	if got := policyOf(t, thread); got != unix.SCHED_IDLE {
		t.Errorf("a worker has policy %d, want SCHED_IDLE", got)
	}
	held := newHeldJob()
	var done atomic.Bool
	held.done = func() { done.Store(true) }
	l.Offload(p, held)
	<-held.started
	for end := time.Now().Add(10 * time.Second); p.Stats().Raised == 0; {
		if time.Now().After(end) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to raise a thread")
			}
			t.Fatal("a job that takes long was not raised")
		}
		runtime.Gosched()
	}
	if got := policyOf(t, thread); got != unix.SCHED_NORMAL {
		t.Errorf("the raised worker has policy %d", got)
	}
	close(held.release)
	for !done.Load() {
		l.Turn(-1)
	}
	// The next job finds it low again.
	probe := &policyJob{thread: thread}
	l.Offload(p, probe)
	for !probe.over {
		l.Turn(-1)
	}
	if probe.policy != unix.SCHED_IDLE {
		t.Errorf("the next job ran with policy %d, want SCHED_IDLE", probe.policy)
	}
}

// mayBeIdle tries it on a thread of its own, which ends with the goroutine.
func mayBeIdle() bool {
	allowed := make(chan bool)
	go func() {
		runtime.LockOSThread()
		allowed <- setPolicy(0, unix.SCHED_IDLE)
	}()
	return <-allowed
}

type policyJob struct {
	thread, policy int
	over           bool
}

func (j *policyJob) Work() {
	if attr, err := unix.SchedGetAttr(j.thread, 0); err == nil {
		j.policy = int(attr.Policy)
	}
}
func (j *policyJob) Done() { j.over = true }

// policyOf reads the policy of a thread: field 41 of its stat.
func policyOf(t *testing.T, thread int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(thread) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	policy, err := strconv.Atoi(fields[41-3])
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// TestRing: many writers and readers; each task comes out once, those of one
// writer in order.
func TestRing(t *testing.T) {
	const writers, readers, each = 3, 3, 3000
	var r ring
	r.init(7)
	var in, out sync.WaitGroup
	var taken [readers][]*task
	var left atomic.Int64
	left.Store(writers * each)
	tasks := make([]task, writers*each)
	for w := range writers {
		in.Go(func() {
			for i := range each {
				task := &tasks[w*each+i]
				task.since = int64(i)
				for !r.push(task) {
					runtime.Gosched()
				}
			}
		})
	}
	for reader := range readers {
		out.Go(func() {
			for left.Load() > 0 {
				if task := r.pop(); task != nil {
					taken[reader] = append(taken[reader], task)
					left.Add(-1)
				} else {
					runtime.Gosched()
				}
			}
		})
	}
	in.Wait()
	out.Wait()
	index := map[*task]int{}
	for i := range tasks {
		index[&tasks[i]] = i
	}
	seen := map[*task]bool{}
	for reader := range readers {
		last := [writers]int64{-1, -1, -1}
		for _, task := range taken[reader] {
			writer := index[task] / each
			if seen[task] || task.since <= last[writer] {
				t.Fatalf("task %d of writer %d came twice or out of order", task.since, writer)
			}
			seen[task], last[writer] = true, task.since
		}
	}
	if len(seen) != len(tasks) {
		t.Errorf("%d tasks came out, want %d", len(seen), len(tasks))
	}
	if _, ok := r.oldest(); ok {
		t.Error("an empty ring has an oldest task")
	}
}
