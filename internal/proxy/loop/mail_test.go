package loop

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestTwoLoops: two running loops post at each other while goroutines post at
// both. Everything is delivered once, in the order of its sender, on the loop's
// own thread.
func TestTwoLoops(t *testing.T) {
	const perSender, senders = 2000, 3
	var loops [2]*Loop
	var done sync.WaitGroup
	for i := range loops {
		l, err := New(Options{Index: i})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		loops[i] = l
	}
	var received [2][senders]int // written by loop i alone
	var arrived atomic.Int64
	all := make(chan struct{})
	arrive := func() {
		if arrived.Add(1) == 2*senders*perSender+1 {
			close(all)
		}
	}
	post := func(to, sender, n int) {
		if !loops[to].Post(func() {
			if received[to][sender] != n {
				t.Errorf("loop %d got number %d of sender %d, want %d", to, n, sender, received[to][sender])
			}
			received[to][sender]++
			arrive()
		}) {
			t.Errorf("post %d to loop %d was refused", n, to)
		}
	}
	// A ball between the loops, as Mail: the same two structs again and again.
	var mails [2]Mail
	bounces := 0 // handed over with the ball
	for i := range mails {
		mails[i].Deliver = func() {
			if bounces++; bounces == perSender {
				arrive()
				return
			}
			loops[1-i].PostMail(&mails[1-i])
		}
	}
	for _, l := range loops {
		done.Go(l.Run)
	}
	loops[0].PostMail(&mails[0])
	for sender := range senders {
		done.Go(func() {
			for n := range perSender {
				post(0, sender, n)
				post(1, sender, n)
				if n%64 == sender {
					runtime.Gosched() // lets the loops fall asleep now and then
				}
			}
		})
	}
	select {
	case <-all:
	case <-time.After(time.Minute):
		t.Errorf("%d of %d arrived: a wake-up was lost", arrived.Load(), 2*senders*perSender+1)
	}
	for _, l := range loops {
		l.Stop()
	}
	done.Wait()
	for i, l := range loops {
		if s := l.Stats(); s.Posted < senders*perSender {
			t.Errorf("loop %d: Stats.Posted = %d, want at least %d", i, s.Posted, senders*perSender)
		}
	}
}

// TestMail: posted twice is delivered once; posted by its own delivery it comes in
// the next turn.
func TestMail(t *testing.T) {
	l, _ := newLoop(t)
	n := 0
	var m Mail
	m.Deliver = func() {
		if n++; n == 2 {
			l.PostMail(&m)
		}
	}
	for i, want := range []int{1, 2, 3, 3} {
		if i < 2 {
			l.PostMail(&m)
			l.PostMail(&m)
		}
		if l.Turn(0); n != want {
			t.Errorf("turn %d: delivered %d times, want %d", i, n, want)
		}
	}
}

// TestSleep: mail that came before the loop lies down keeps it up, mail that comes
// afterwards wakes it, once.
func TestSleep(t *testing.T) {
	l, _ := newLoop(t)
	box := &l.mailbox
	woken := func() bool { return l.poll() == 1 && l.batch[0].Fd == wakeSlot }
	m := Mail{Deliver: func() {}}
	l.PostMail(&m)
	if box.sleep() {
		t.Error("the loop may sleep over mail")
	}
	box.awake()
	if woken() {
		t.Error("a loop that was awake was woken")
	}
	l.Turn(0)
	if !box.sleep() {
		t.Error("the loop may not sleep without mail")
	}
	l.PostMail(&m)
	l.Post(func() {})
	if !woken() || woken() {
		t.Error("a sleeping loop was not woken just once")
	}
	l.Turn(0)
	if !box.sleep() {
		t.Error("the loop may not sleep without mail")
	}
	l.Stop()
	if !woken() {
		t.Error("Stop did not wake the loop")
	}
}

// TestGate: shutting waits for who is inside, and lets nobody in meanwhile.
func TestGate(t *testing.T) {
	var g gate
	if !g.enter() {
		t.Fatal("an open gate lets nobody in")
	}
	var left atomic.Bool
	shut := make(chan bool)
	go func() {
		g.shut()
		shut <- left.Load()
	}()
	for g.enter() {
		g.leave()
		runtime.Gosched()
	}
	select {
	case <-shut:
		t.Fatal("the gate was shut with a caller inside")
	case <-time.After(5 * time.Millisecond): // time for a wrong gate to show itself
	}
	left.Store(true)
	g.leave()
	if !<-shut {
		t.Error("the gate was shut with a caller inside")
	}
	if g.shut() {
		t.Error("the gate could be shut twice")
	}
}

// TestPostBound: functions that nobody fetches are refused beyond the bound, and
// counted; after the loop has fetched them there is room again.
func TestPostBound(t *testing.T) {
	l, _ := newLoop(t)
	ran := 0
	for range maxPosted {
		if !l.Post(func() { ran++ }) {
			t.Fatal("refused below the bound")
		}
	}
	if l.Post(func() {}) {
		t.Error("accepted beyond the bound")
	}
	l.Turn(0)
	if ran != maxPosted || l.Stats().PostsRefused != 1 || !l.Post(func() {}) {
		t.Errorf("%d ran, %d refused, want %d and 1, and then room again", ran, l.Stats().PostsRefused, maxPosted)
	}
}

// TestCloseWhilePosting: loops close under posters. A poster must never write to a
// descriptor that is closed, and learns that the loop is gone.
func TestCloseWhilePosting(t *testing.T) {
	for range 20 {
		l, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				var m Mail
				m.Deliver = func() {}
				for l.PostMail(&m) {
					runtime.Gosched()
				}
			})
		}
		all.Go(func() {
			l.Run()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		l.Post(l.Stop)
		all.Wait()
	}
}

func BenchmarkMail(b *testing.B) {
	l, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	m := Mail{Deliver: func() {}}
	b.ReportAllocs()
	for b.Loop() {
		l.PostMail(&m)
		l.deliver()
	}
}
