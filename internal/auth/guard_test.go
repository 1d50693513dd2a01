package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluis/internal/event"
)

// fail makes failed logins as fast as the guard lets them through, and returns how
// long each had to wait.
func (b *box) fail(t *testing.T, times int, from string) (waits []time.Duration) {
	t.Helper()
	for range times {
		err := b.login("ann", "wrong", from)
		wait := max(0, retryAfter(err))
		if wait > 0 {
			time.Sleep(wait - 1)
			if early := retryAfter(b.login("ann", "wrong", from)); early != 1 {
				t.Fatalf("1 ns too early: wait another %v, want 1ns", early)
			}
			time.Sleep(time.Nanosecond)
			err = b.login("ann", "wrong", from)
		}
		if kind(err) != Unauthenticated {
			t.Fatalf("after the wait of %v: %v", wait, err)
		}
		waits = append(waits, wait)
	}
	return waits
}

func TestDelaysAndBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann)
		b.told()
		s := time.Second
		rise := []time.Duration{0, 0, 0, 1 * s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}
		if diff := cmp.Diff(rise, b.fail(t, 10, "192.0.2.1")); diff != "" {
			t.Errorf("waits (-want +got):\n%s", diff)
		}
		events := b.told()
		want := SourceBlocked{Source: "192.0.2.1/32", Failures: 10, Until: time.Now().Add(2 * time.Minute).UTC(), Seconds: 120}
		if diff := cmp.Diff(event.Event(want), events[len(events)-1]); diff != "" {
			t.Errorf("last event (-want +got):\n%s", diff)
		}
		if got := len(events); got != 11 {
			t.Errorf("%d events, want 10 failures and a block: early ones are not told", got)
		}

		var blocks []time.Duration
		for range 20 {
			block := retryAfter(b.login("ann", "ann's password", "192.0.2.1"))
			blocks = append(blocks, block.Round(time.Second))
			time.Sleep(block)
			b.fail(t, 10, "192.0.2.1")
		}
		minute := time.Minute
		if diff := cmp.Diff([]time.Duration{2 * minute, 3 * minute, 270 * s, 405 * s}, blocks[:4]); diff != "" {
			t.Errorf("first blocks (-want +got):\n%s", diff)
		}
		if last := blocks[len(blocks)-1]; last != maxBlock {
			t.Errorf("last block %v, want %v", last, maxBlock)
		}

		// All is forgotten one detection time after the end of the block.
		time.Sleep(maxBlock + 30*time.Minute)
		if diff := cmp.Diff(rise, b.fail(t, 10, "192.0.2.1")); diff != "" {
			t.Errorf("waits after the detection time (-want +got):\n%s", diff)
		}
		if got := retryAfter(b.login("ann", "wrong", "192.0.2.1")); got != 2*minute {
			t.Errorf("block after the detection time %v, want 2m", got)
		}
	})
}

func TestWhoIsBlocked(t *testing.T) {
	tests := []struct {
		name, attacker, caller string
		passList               string
		want                   bool
	}{
		{"itself", "192.0.2.1", "192.0.2.1", "", true},
		{"as IPv6", "192.0.2.1", "::ffff:192.0.2.1", "", true},
		{"its neighbour", "192.0.2.1", "192.0.2.2", "", false},
		{"same /64", "2001:db8::1", "2001:db8::ffff:2", "", true},
		{"next /64", "2001:db8::1", "2001:db8:0:1::1", "", false},
		{"pass list", "192.0.2.1", "192.0.2.1", "192.0.2.0/30", false},
		{"pass list, as IPv6", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.0/30", false},
		{"other pass list", "192.0.2.1", "192.0.2.1", "198.51.100.0/24", true},
		{"the machine itself", "", "", "", false},
		{"loopback", "127.0.0.1", "127.0.0.1", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBox(t, ann)
			b.protection.Threshold = 3
			if tt.passList != "" {
				b.protection.PassList = []netip.Prefix{netip.MustParsePrefix(tt.passList)}
			}
			for range 3 {
				if err := b.login("bob", "wrong", tt.attacker); kind(err) != Unauthenticated {
					t.Fatal(err)
				}
			}
			err := b.login("ann", "ann's password", tt.caller)
			_, basicErr := b.Basic(t.Context(), "ann", "ann's password", source(tt.caller))
			if got := kind(err) == Throttled; got != tt.want || (err == nil) == tt.want {
				t.Errorf("Login = %v, want blocked: %v", err, tt.want)
			}
			if got := kind(basicErr) == Throttled; got != tt.want {
				t.Errorf("Basic = %v, want blocked: %v", basicErr, tt.want)
			}
			if !tt.want {
				return
			}
			blocked := b.BlockedSources()
			if len(blocked) != 1 || !blocked[0].Source.Contains(source(tt.attacker)) {
				t.Errorf("BlockedSources() = %v", blocked)
			}
			if !b.Unblock(source(tt.caller)) || b.Unblock(source(tt.caller)) {
				t.Error("Unblock reports the wrong thing")
			}
			must(t, b.login("ann", "ann's password", tt.caller))
		})
	}
}

// TestOwnAccountIsNoCover: who has an account can't take failures back with it.
func TestOwnAccountIsNoCover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann, vera)
		guesses := 0
		for range 100 {
			time.Sleep(maxDelay)
			if kind(b.login("ann", fmt.Sprint("guess ", guesses), "192.0.2.1")) != Unauthenticated {
				break
			}
			guesses++
			if err := b.login("vera", "vera's password", "192.0.2.1"); err != nil && retryAfter(err) < 0 {
				t.Fatal(err)
			}
		}
		if guesses != 10 {
			t.Errorf("%d guesses before the block, want 10", guesses)
		}
	})
}

// TestGuessingFromManySources slows guesses at one name, whether it exists or not,
// but not the machine itself, the pass list, or other names.
func TestGuessingFromManySources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, name := range []string{"ann", "no such name"} {
			b := newBox(t, ann, vera)
			b.protection.PassList = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
			checked := 0
			for i := range 3600 { // an hour, a new source each second
				from := fmt.Sprintf("203.0.%d.%d", 100+i/250, i%250)
				if kind(b.login(name, "wrong", from)) == Unauthenticated {
					checked++
				}
				time.Sleep(time.Second)
			}
			if checked < 100 || checked > 130 {
				t.Errorf("%q: %d guesses in an hour were checked, want about 120", name, checked)
			}
			if retryAfter(b.login(name, "ann's password", "203.0.99.1")) < 0 {
				t.Errorf("%q: a new source needs not wait", name)
			}
			must(t, b.login("ann", "ann's password", ""))
			must(t, b.login("ann", "ann's password", "198.51.100.7"))
			if b.guard.row("vera") != b.guard.row(name) { // rows are shared by chance
				must(t, b.login("vera", "vera's password", "203.0.99.2"))
			}
			// A new password, set by someone who may, lets its owner in at once.
			must(t, b.SetPassword(t.Context(), "ann", "a new password for ann", ""))
			if name == "ann" {
				must(t, b.login("ann", "a new password for ann", "203.0.99.3"))
			}
		}
	})
}

// TestGuessesAtOnce starts many guesses together: no more are checked than one
// after another would be.
func TestGuessesAtOnce(t *testing.T) {
	for _, tt := range []struct {
		failedBefore, want int
	}{{0, 10}, {2, 8}, {3, 1}, {6, 1}} {
		t.Run(fmt.Sprint(tt.failedBefore, " before"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBox(t, ann)
				b.fail(t, tt.failedBefore, "192.0.2.1")
				time.Sleep(maxDelay)
				b.hasher.slots <- struct{}{} // nobody comes through yet
				b.hasher.slots <- struct{}{}
				results := make(chan error, 20)
				for i := range cap(results) {
					go func() { results <- b.login("ann", fmt.Sprint("guess ", i), "192.0.2.1") }()
				}
				synctest.Wait()
				b.hasher.release()
				b.hasher.release()
				checked := 0
				for range cap(results) {
					if kind(<-results) == Unauthenticated {
						checked++
					}
				}
				if checked != tt.want {
					t.Errorf("%d guesses were checked, want %d", checked, tt.want)
				}
			})
		})
	}
}

func TestSourcesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.protection.Threshold = 1
		b.protection.BlockTime = time.Hour
		_ = b.login("ann", "wrong", "192.0.2.1") // blocked
		b.protection.Threshold = 10
		slow, err := b.guard.begin(b.Auth.protection(), "ann", netip.MustParseAddr("192.0.2.2"), time.Now())
		must(t, err)
		for i := range maxSources + 100 {
			time.Sleep(time.Millisecond)
			from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			b.guard.pardon("ann") // this is about sources
			_, _ = b.Login(context.Background(), "ann", "wrong", from)
		}
		stats := b.Stats()
		if stats.Sources != maxSources || stats.SourcesEvicted == 0 {
			t.Errorf("%d sources and %d evicted, want %d and some", stats.Sources, stats.SourcesEvicted, maxSources)
		}
		if len(b.BlockedSources()) != 1 {
			t.Error("the blocked source was given up before idle ones")
		}
		if b.guard.sources[slow.prefix] != slow.source {
			t.Error("a source was given up while its login is being checked")
		}
		slow.dropped()
		if b.guard.sources[netip.MustParsePrefix("10.0.0.0/32")] != nil {
			t.Error("the oldest source is still there")
		}
		time.Sleep(2 * time.Hour)
		_ = b.login("ann", "wrong", "198.51.100.1") // takes the place of slow
		_ = b.login("ann", "wrong", "198.51.100.2") // finds the table full
		if got := b.Stats().Sources; got != 2 {
			t.Errorf("%d sources after the detection time, want the new ones", got)
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, ann)
		b.protection.Threshold = 100
		b.hasher.slots <- struct{}{}
		b.hasher.slots <- struct{}{}
		b.hasher.logins.Add(maxHashes)
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, maxWaiters)
		for range maxWaiters {
			go func() { _, err := b.Login(ctx, "ann", "ann's password", source("192.0.2.1")); results <- err }()
		}
		synctest.Wait()
		err := b.login("ann", "ann's password", "192.0.2.1")
		if !errors.Is(err, ErrBusy) || b.Stats().RefusedBusy != 1 {
			t.Errorf("login %d = %v, want busy", maxWaiters+1, err)
		}
		changed := make(chan error, 1)
		go func() { changed <- b.SetPassword(t.Context(), "ann", "a new password", "") }()
		synctest.Wait() // an administrator waits however long the queue is
		cancel()
		for range maxWaiters {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("a waiting login whose caller left = %v, want %v", err, context.Canceled)
			}
		}
		b.hasher.logins.Add(-maxHashes)
		b.hasher.release()
		b.hasher.release()
		must(t, <-changed)
		must(t, b.login("ann", "a new password", ""))
		if got := b.hasher.logins.Load(); got != 0 {
			t.Errorf("%d logins are still counted", got)
		}
		if got := b.Stats().Sources; got != 0 {
			t.Errorf("%d sources are remembered for logins that were never checked", got)
		}
	})
}
