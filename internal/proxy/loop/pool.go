package loop

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Job is work that is too slow for a loop: a private-key signature, a password
// hash, a file.
type Job interface {
	// Work runs on a worker, beside the loop: it touches nothing of the loop's.
	Work()
	// Done runs in the loop afterwards; only it may tell the job's owner.
	Done()
}

// PoolStats are the counters of a Pool.
type PoolStats struct {
	Done    uint64 // jobs worked on
	Refused uint64 // jobs that found the queue full or the pool closed
	Waiting int    // jobs in the queue
	Working int    // jobs in work
	// Overdue are jobs that waited for more than 20 ms and got a worker of normal
	// priority; Raised are workers that were raised to it in the middle of a job.
	Overdue, Raised uint64
}

// Pool is a bounded number of workers for the jobs of all loops. Its workers are
// threads that run when nothing else wants the core (SCHED_IDLE): only so does a
// signature of a millisecond not delay the requests of a loop on the same core. A
// job that has waited too long, or takes too long, gets normal priority.
//
// A thread of lowest priority may be put to sleep at any instruction, for as long
// as the loops are busy. So it shares no lock with them: the queue is a ring of
// atomics, workers sleep in an eventfd, results come back through the mailbox.
type Pool struct {
	bound int
	queue ring
	wake  int // eventfd, counting down: one per waiting job
	gate  gate
	start time.Time

	waiting, working                atomic.Int64
	done, refused, overdue, raised  atomic.Uint64
	workers                         []*worker
	helpers                         chan struct{} // a place for each normal worker
	attend                          chan struct{} // tells the attendant of work
	attending                       atomic.Bool
	closing                         chan struct{}
	closed                          atomic.Bool
	threads, attendant, helperGroup sync.WaitGroup
}

// maxWait is how long a job waits, or a worker of lowest priority may take, before
// it gets normal priority.
const maxWait = 20 * time.Millisecond

// worker is a thread of lowest priority.
type worker struct {
	thread atomic.Int64 // its id; 0 before it runs
	since  atomic.Int64 // when its job began, in ns of the pool; 0: idle
	raised atomic.Bool  // has normal priority until its job is done
}

// task is a job on its way through the pool; loops keep them for the next job.
type task struct {
	mail  Mail
	job   Job
	loop  *Loop
	since int64 // ns of the pool
}

// maxTasks bounds the tasks that a loop keeps.
const maxTasks = 1024

// NewPool starts workers, at least 1, with a queue for that many jobs, at least 1.
func NewPool(workers, queue int) *Pool {
	workers, queue = max(workers, 1), max(queue, 1)
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_SEMAPHORE)
	if err != nil {
		// Like a goroutine or memory that cannot be had: at start, and not handled.
		panic("cannot start workers: eventfd: " + err.Error())
	}
	p := &Pool{
		bound: queue, wake: wake, start: time.Now(),
		helpers: make(chan struct{}, workers),
		attend:  make(chan struct{}, 1),
		closing: make(chan struct{}),
	}
	p.queue.init(queue)
	for range workers {
		w := &worker{}
		p.workers = append(p.workers, w)
		p.threads.Go(func() { p.work(w) })
	}
	p.attendant.Go(p.attendQueue)
	return p
}

// Offload has j worked on outside of the loop. It says false, and counts, if the
// pool is full or closed. If the loop is closed before, Done is never called.
func (l *Loop) Offload(p *Pool, j Job) bool {
	if !p.gate.enter() {
		p.refused.Add(1)
		l.count[countJobsRefused]++
		return false
	}
	defer p.gate.leave()
	var t *task
	if n := len(l.tasks); n > 0 {
		t = l.tasks[n-1]
		l.tasks[n-1] = nil
		l.tasks = l.tasks[:n-1]
	} else {
		t = &task{loop: l}
		t.mail.Deliver = t.finish
	}
	t.job, t.since = j, p.now()
	if p.waiting.Add(1) > int64(p.bound) || !p.queue.push(t) {
		p.waiting.Add(-1)
		p.refused.Add(1)
		l.count[countJobsRefused]++
		l.keepTask(t)
		return false
	}
	addOne(int32(p.wake))
	if p.attending.CompareAndSwap(false, true) {
		p.attend <- struct{}{}
	}
	return true
}

// finish runs in the loop.
func (t *task) finish() {
	j := t.job
	t.loop.keepTask(t)
	j.Done()
}

func (l *Loop) keepTask(t *task) {
	t.job = nil
	if len(l.tasks) < maxTasks {
		l.tasks = append(l.tasks, t)
	}
}

func (p *Pool) now() int64 { return int64(time.Since(p.start)) + 1 }

// run does one job, if there is one.
func (p *Pool) run(w *worker) bool {
	t := p.queue.pop()
	if t == nil {
		return false
	}
	p.working.Add(1)
	p.waiting.Add(-1)
	if w != nil {
		w.since.Store(p.now())
	}
	t.job.Work()
	if w != nil {
		w.since.Store(0)
	}
	p.working.Add(-1)
	p.done.Add(1)
	t.loop.PostMail(&t.mail)
	return true
}

// work is the life of a worker. Its thread ends with it: it never returns from
// SCHED_IDLE where that is not allowed.
func (p *Pool) work(w *worker) {
	runtime.LockOSThread()
	setPolicy(0, unix.SCHED_IDLE)
	w.thread.Store(int64(unix.Gettid()))
	one := make([]byte, 8)
	for {
		// Blocks until there is a job or the pool closes.
		if _, err := unix.Read(p.wake, one); err != nil && err != unix.EINTR {
			panic("BUG: read eventfd: " + err.Error())
		}
		if w.raised.Swap(false) {
			setPolicy(0, unix.SCHED_IDLE)
		}
		if !p.run(w) && p.closed.Load() {
			return
		}
	}
}

// attendQueue looks after jobs that wait or take too long. It sleeps while the
// pool is empty.
func (p *Pool) attendQueue() {
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for {
		select {
		case <-p.attend:
		case <-p.closing:
			return
		}
		for p.waiting.Load() > 0 || p.working.Load() > 0 {
			timer.Reset(p.attendOnce())
			select {
			case <-timer.C:
			case <-p.closing:
				return
			}
		}
		p.attending.Store(false)
		// A job that came between the last look and the store told nobody.
		if (p.waiting.Load() > 0 || p.working.Load() > 0) && p.attending.CompareAndSwap(false, true) {
			p.attend <- struct{}{}
		}
	}
}

// attendOnce helps what is overdue and says when to look again.
func (p *Pool) attendOnce() time.Duration {
	now := p.now()
	for _, w := range p.workers {
		if since := w.since.Load(); since != 0 && now-since > int64(maxWait) && !w.raised.Load() {
			// Allowed to root and CAP_SYS_NICE; others wait for an idle core. If the
			// job ends just now, the next one begins with normal priority, no more.
			if setPolicy(int(w.thread.Load()), unix.SCHED_NORMAL) {
				w.raised.Store(true)
				p.raised.Add(1)
			}
		}
	}
	since, ok := p.queue.oldest()
	if !ok {
		return maxWait
	}
	if wait := maxWait - time.Duration(now-since); wait > 0 {
		return wait
	}
	select {
	case p.helpers <- struct{}{}:
		p.helperGroup.Go(p.help)
	default:
	}
	return maxWait / 4
}

// help works with normal priority until nothing is overdue.
func (p *Pool) help() {
	defer func() { <-p.helpers }()
	for {
		since, ok := p.queue.oldest()
		if !ok || p.now()-since < int64(maxWait) || !p.run(nil) {
			return
		}
		p.overdue.Add(1)
	}
}

// setPolicy changes the scheduling of a thread; 0 is the calling one.
func setPolicy(thread, policy int) bool {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: uint32(policy)}
	return unix.SchedSetAttr(thread, &attr, 0) == nil
}

// Close refuses new jobs, has those that wait worked on, and waits for the
// workers.
func (p *Pool) Close() {
	if !p.gate.shut() {
		return
	}
	p.closed.Store(true)
	for range p.workers {
		addOne(int32(p.wake))
	}
	p.threads.Wait()
	close(p.closing)
	p.attendant.Wait()
	p.helperGroup.Wait()
	closeFD(int32(p.wake))
}

// Stats returns the counters. Any goroutine.
func (p *Pool) Stats() PoolStats {
	return PoolStats{
		Done: p.done.Load(), Refused: p.refused.Load(),
		Waiting: int(max(p.waiting.Load(), 0)), Working: int(p.working.Load()),
		Overdue: p.overdue.Load(), Raised: p.raised.Load(),
	}
}
