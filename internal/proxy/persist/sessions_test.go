package persist

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// slowSessions is the table as one would write it at first: a map, searched whole.
type slowSessions struct {
	server map[uint64]int
	seen   map[uint64]int64
}

func (s *slowSessions) count(server int, now, ttl int64) (n int) {
	for key, of := range s.server {
		if of == server && now-s.seen[key] < ttl {
			n++
		}
	}
	return n
}

func TestSessionsAgainstAMap(t *testing.T) {
	const ttl = int64(time.Second)
	random := rand.New(rand.NewPCG(1, 2))
	s := NewSessions(1<<16, time.Duration(ttl)) // never full here
	slow := slowSessions{map[uint64]int{}, map[uint64]int64{}}
	at, keys := int64(1), make([]uint64, 3000)
	for i := range keys {
		keys[i] = random.Uint64()
	}
	for step := range 40000 {
		at += random.Int64N(int64(time.Millisecond) / 4)
		if random.IntN(5000) == 0 {
			at += ttl // all are forgotten
		}
		key, server := keys[random.IntN(len(keys))], random.IntN(5)*300
		if seen, known := slow.seen[key]; known && at-seen < ttl && random.IntN(3) > 0 {
			server = slow.server[key] // as persistence does
		}
		switch {
		case random.IntN(4000) == 0:
			s.Forget(server)
			for k, of := range slow.server {
				if of == server {
					delete(slow.server, k)
				}
			}
		default:
			s.Touch(key, server, at)
			slow.server[key], slow.seen[key] = server, at
			if got := s.LastSeen(server); at-got >= seenGrain {
				t.Fatalf("step %d: server %d was last seen %d ns ago", step, server, at-got)
			}
		}
		if step%500 == 0 {
			for server := 0; server < 1500; server += 300 {
				if got, want := s.Count(server, at), slow.count(server, at, ttl); got != want {
					t.Fatalf("step %d: %d clients at server %d, want %d", step, got, server, want)
				}
			}
		}
	}
	if got := s.Stats(at + ttl); got != (SessionStats{}) {
		t.Errorf("when all are forgotten: %+v", got)
	}
}

func TestSessionsExpireAtTheMoment(t *testing.T) {
	s := NewSessions(100, time.Minute)
	minute := int64(time.Minute)
	s.Touch(7, 1, 10)
	s.Touch(8, 1, 20)
	for at, want := range map[int64]int{20: 2, minute + 9: 2} {
		if got := s.Count(1, at); got != want {
			t.Errorf("%d clients at %d, want %d", got, at, want)
		}
	}
	if got := []int{s.Count(1, minute+10), s.Count(1, minute+19), s.Count(1, minute+20)}; got[0] != 1 || got[1] != 1 || got[2] != 0 {
		t.Errorf("clients at the ends of their times: %v, want [1 1 0]", got)
	}
}

func TestAFullTableForgetsTheLongestUnseen(t *testing.T) {
	const each = 4
	s := NewSessions(shards*each, time.Hour)
	for i := range uint64(each) { // all in one shard
		s.Touch(i*shards, 0, int64(i+1))
	}
	s.Touch(0, 0, 10) // seen again: 1 is the oldest now
	s.Touch(each*shards, 1, 11)
	if got := s.Stats(12); got != (SessionStats{Bound: each, Evicted: 1}) {
		t.Errorf("%+v", got)
	}
	s.Touch(0, 2, 13) // still there: it moves, and nobody gives way
	if got := []int{s.Count(0, 13), s.Count(1, 13), s.Count(2, 13)}; got[0] != each-2 || got[1] != 1 || got[2] != 1 {
		t.Errorf("clients by server: %v", got)
	}
	for i := range uint64(each) { // the time of all is over: nobody has to give way
		s.Touch(i*shards+1, 0, int64(time.Hour)+20)
		s.Touch((i+9)*shards, 0, int64(time.Hour)+20)
	}
	if got := s.Stats(int64(time.Hour) + 20); got != (SessionStats{Bound: 2 * each, Evicted: 1}) {
		t.Errorf("%+v", got)
	}
	s.Touch(1, maxServers, 14)
	s.Touch(1, -1, 14)
	if got := s.Stats(14); got.Refused != 2 || got.Evicted != 1 || s.Count(maxServers, 14) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestSessionsFromManyLoops(t *testing.T) {
	const loops, each, clients = 4, 20000, 5000
	s := NewSessions(clients/2, time.Hour)
	var wait sync.WaitGroup
	for loop := range loops {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(uint64(loop), 0))
			for i := range each {
				s.Touch(uint64(random.IntN(clients))*0x9e3779b97f4a7c15, random.IntN(300), int64(i+1))
				if i%1000 == 0 {
					s.Count(7, int64(i))
					s.Forget(11)
				}
			}
		})
	}
	wait.Wait()
	sum := 0
	for server := range 300 {
		sum += s.Count(server, each)
	}
	if stats := s.Stats(each); stats.Bound != sum || sum == 0 || sum > clients/2+shards || stats.Evicted == 0 {
		t.Errorf("%d clients by server, %+v", sum, stats)
	}
}

func TestKeysTellClientsApart(t *testing.T) {
	s := NewSessions(1, time.Hour)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	keys := map[uint64]bool{}
	for _, key := range []uint64{
		s.Key("web", a, []byte("x")), s.Key("web", b, []byte("x")), s.Key("web", a, []byte("y")), s.Key("api", a, []byte("x")), s.Key("webx", a, nil),
	} {
		keys[key] = true
	}
	if len(keys) != 5 || !keys[s.Key("web", a, []byte("x"))] {
		t.Errorf("%d keys of 5 clients", len(keys))
	}
	agent := []byte("Mozilla/5.0")
	if got := testing.AllocsPerRun(100, func() { s.Touch(s.Key("web", a, agent), 3, 1) }); got != 0 {
		t.Errorf("a known client allocates %v times", got)
	}
}

func BenchmarkTouch(b *testing.B) {
	s := NewSessions(1<<17, time.Hour)
	agent := []byte("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36")
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		s.Touch(s.Key("web", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), agent), i&7, int64(i))
	}
}
