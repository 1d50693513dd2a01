package loop

import (
	"math"
	"math/bits"
)

// Timer calls a function of its owner at a time. It is embedded by value and
// belongs to one loop. While it is armed the wheel refers to it: disarm it when
// its owner goes away.
type Timer struct {
	expired    func()
	next, prev *Timer // in a list of the wheel; nil: in none
	deadline   int64  // monotonic ns; 0: not armed
	due        int64  // tick at which its list is looked at
}

// Init sets the function that runs in the loop when the timer expires.
func (t *Timer) Init(expired func()) { t.expired = expired }

// Deadline is when the timer expires, in the loop's time; 0 if it is not armed.
func (t *Timer) Deadline() int64 { return t.deadline }

// Arm sets the deadline, in the loop's time (Now); 0 disarms. A timer never runs
// early. It runs at most 8 ms late when armed for less than a second, beyond that
// at most a sixteenth of its time late (plus the turn it falls into). Moving the deadline of an armed timer
// later only stores it.
func (l *Loop) Arm(t *Timer, deadline int64) {
	t.deadline = deadline
	if t.next != nil {
		if deadline != 0 && deadline >= t.due*tick {
			return // looked at in time, and then put where it belongs
		}
		t.unlink()
	}
	if deadline != 0 {
		l.wheel.link(t)
	}
}

const (
	tick       = 8_000_000 // ns: the finest resolution
	levelSlots = 128
	levelBits  = 3 // each level is 8 times coarser than the one before
	levels     = 7 // 8 ms … 35 min per slot, 3 days in all
	never      = math.MaxInt64
	// maxExpired bounds the timers that run in one turn.
	maxExpired = 256
)

// wheel holds armed timers by the time at which to look at them. Each level is a
// ring of lists; a timer goes to the finest level that reaches its deadline, into
// the first list that is not early. It does not move to finer levels later: that
// is what makes it cheap, and coarse for long times.
//
//	level 0  |8 ms|8 ms|…  128 lists = 1 s
//	level 1  |64 ms|64 ms|…          = 8 s
//	level 2  |512 ms|…               = 65 s    and so on
type wheel struct {
	at      int64 // tick up to which lists were looked at
	first   int64 // no list needs a look before this tick; never: all are empty
	expired Timer // list of those whose list came up, in work
	lists   [levels][levelSlots]Timer
	used    [levels][levelSlots / 64]uint64 // lists that may hold something
}

func (w *wheel) init(now int64) {
	w.at = now / tick
	w.first = never
	w.expired.next, w.expired.prev = &w.expired, &w.expired
	for level := range w.lists {
		for i := range w.lists[level] {
			list := &w.lists[level][i]
			list.next, list.prev = list, list
		}
	}
}

// working says that expired timers wait for the next turn.
func (w *wheel) working() bool { return w.expired.next != &w.expired }

// next is the time of the next look in ns; never if there is none.
func (w *wheel) next() int64 {
	if w.first == never {
		return never
	}
	return w.first * tick
}

func (t *Timer) unlink() {
	t.prev.next, t.next.prev = t.next, t.prev
	t.next, t.prev = nil, nil
}

// append puts t at the end of the list.
func (list *Timer) append(t *Timer) {
	t.next, t.prev = list, list.prev
	list.prev.next = t
	list.prev = t
}

func (w *wheel) link(t *Timer) {
	// The first tick that is not before the deadline, and not the present one.
	at := max((t.deadline-1)/tick+1, w.at+1)
	for level := range levels {
		shift := levelBits * level
		slot := (at-1)>>shift + 1 // rounded up
		if slot-(w.at>>shift) >= levelSlots {
			if level < levels-1 {
				continue
			}
			slot = w.at>>shift + levelSlots - 1 // as late as it goes; looked at and put back then
		}
		t.due = slot << shift
		i := slot % levelSlots
		w.lists[level][i].append(t)
		w.used[level][i/64] |= 1 << (i % 64)
		w.first = min(w.first, t.due)
		return
	}
}

// advance moves the lists whose time has come into expired. It comes before the
// events of a turn, so that what they arm is measured from now.
func (w *wheel) advance(now int64) {
	to := now / tick
	if to < w.first {
		w.at = to
		return
	}
	from := w.at
	w.at = to
	w.first = never
	for level := range levels {
		shift := levelBits * level
		w.sweep(level, from>>shift, to>>shift)
	}
}

// sweep looks at the lists of a level after from, up to and including to, and
// finds the first one beyond.
func (w *wheel) sweep(level int, from, to int64) {
	for word, left := range w.used[level] {
		for left != 0 {
			low := left & -left
			left &^= low
			i := word*64 + bits.TrailingZeros64(low)
			list := &w.lists[level][i]
			if list.next == list {
				w.used[level][word] &^= low
				continue
			}
			// The slot number behind the index: the first after from.
			slot := from + 1 + (int64(i)-from-1)&(levelSlots-1)
			if slot > to {
				w.first = min(w.first, slot<<(levelBits*level))
				continue
			}
			w.used[level][word] &^= low
			w.expired.take(list)
		}
	}
}

// take moves all of another list to the end of this one.
func (list *Timer) take(other *Timer) {
	other.next.prev, list.prev.next = list.prev, other.next
	other.prev.next, list.prev = list, other.prev
	other.next, other.prev = other, other
}

// expire runs the timers whose time has come.
func (l *Loop) expire() int {
	w := &l.wheel
	done := 0
	for range maxExpired {
		t := w.expired.next
		if t == &w.expired {
			break
		}
		t.unlink()
		if t.deadline > l.now { // moved later meanwhile
			w.link(t)
			continue
		}
		t.deadline = 0
		t.expired()
		l.watch.after(l, "timer")
		done++
	}
	l.count[countTimers] += uint64(done)
	return done
}
