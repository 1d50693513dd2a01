package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// VisitorsOptions say where the visitors go and how many there are.
type VisitorsOptions struct {
	// Site is where the site answers over TLS (host:port); Plain where it answers
	// with a redirect to that.
	Site, Plain string
	// Roots vouch for the site.
	Roots *x509.CertPool
	// Chats is how many chats are kept open; Requests how many requests are made in
	// a second.
	Chats, Requests int
	// WasStopped reports whether a server was stopped, since a chat began at it, by
	// whoever plays with the demo: then its end is not the balancer's doing.
	WasStopped func(server string, since time.Time) bool
	// Story is told what becomes of the chats.
	Story *Story
}

// Visitors are the people in front of the site. They come with Start and go with
// Close.
type Visitors struct {
	options VisitorsOptions
	tls     *tls.Config
	cancel  context.CancelFunc
	running sync.WaitGroup

	roundTrips meter
	answers    meter

	mu sync.Mutex
	// What follows is guarded by mu.
	chats    ChatFigures
	wave     *Wave // chats that are being reconnected; nil = none are
	lastWave Wave
	requests RequestFigures
	perServe map[string]*meter
	troubled time.Time // the last time that trouble was told
}

// ChatFigures count chats since the start.
type ChatFigures struct {
	// Wanted are kept open; Open are open now.
	Wanted int `json:"wanted"`
	Open   int `json:"open"`
	// Cut were closed though nobody had stopped their server.
	Cut int `json:"cut"`
	// LastCut says how the last one was cut; empty = none was.
	LastCut string `json:"last_cut"`
	// Lost went with a server that was stopped. Moved of both go on at another
	// server, Returned at the same; Reconnecting are on their way.
	Lost         int `json:"lost"`
	Moved        int `json:"moved"`
	Returned     int `json:"returned"`
	Reconnecting int `json:"reconnecting"`
	// Ended were ended by their visitors.
	Ended int `json:"ended"`
	// Servers are the chats by server.
	Servers map[string]ChatsAt `json:"servers"`
	// RoundTrip is how often a chat's ping comes back, and how fast.
	RoundTrip Pace `json:"round_trip"`
	// LastWave are the chats that reconnected together last.
	LastWave Wave `json:"last_wave"`
}

// ChatsAt are the chats at one server; Moved of them came from another one.
type ChatsAt struct {
	Open  int `json:"open"`
	Moved int `json:"moved"`
}

// Wave is a number of chats that were closed together and reconnect.
type Wave struct {
	Began time.Time `json:"began,omitzero"`
	Chats int       `json:"chats"`
	// To is how many went to which server.
	To map[string]int `json:"to"`
	// Took is until the last one was back, in milliseconds.
	Took float64 `json:"took_ms"`

	back     int
	lastLoss time.Time
}

// RequestFigures count requests since the start.
type RequestFigures struct {
	Total  int `json:"total"`
	Failed int `json:"failed"`
	// Late are those that were not made because too many were under way.
	Late int  `json:"late"`
	Pace Pace `json:"pace"`
	// LastFailure says what went wrong last; empty = nothing has.
	LastFailure string             `json:"last_failure"`
	Servers     map[string]float64 `json:"servers"` // requests per second
}

// Figures are everything that the visitors have counted.
type Figures struct {
	Chats    ChatFigures    `json:"chats"`
	Requests RequestFigures `json:"requests"`
}

// StartVisitors lets them come.
func StartVisitors(o VisitorsOptions) *Visitors {
	ctx, cancel := context.WithCancel(context.Background())
	host, _, _ := net.SplitHostPort(o.Site)
	v := &Visitors{
		options: o, cancel: cancel, perServe: map[string]*meter{},
		tls: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots, ServerName: host, ClientSessionCache: tls.NewLRUClientSessionCache(64)},
	}
	v.chats.Wanted, v.chats.Servers = o.Chats, map[string]ChatsAt{}
	for i := range o.Chats {
		v.running.Go(func() { v.chatAll(ctx, i) })
	}
	v.running.Go(func() { v.request(ctx) })
	v.running.Go(func() { v.watchWaves(ctx) })
	return v
}

// Close sends them home.
func (v *Visitors) Close() {
	v.cancel()
	v.running.Wait()
}

// Figures are what they have counted up to now.
func (v *Visitors) Figures() Figures {
	roundTrip, pace := v.roundTrips.pace(), v.answers.pace()
	v.mu.Lock()
	defer v.mu.Unlock()
	f := Figures{v.chats, v.requests}
	f.Chats.Servers = maps.Clone(v.chats.Servers)
	f.Chats.RoundTrip, f.Chats.LastWave = roundTrip, v.lastWave
	f.Requests.Pace, f.Requests.Servers = pace, map[string]float64{}
	for server, m := range v.perServe {
		f.Requests.Servers[server] = m.pace().PerSecond
	}
	return f
}

// waveQuiet is how long no further chat must be closed for a wave to be over.
const waveQuiet = 300 * time.Millisecond

// watchWaves tells of each wave when it is over.
func (v *Visitors) watchWaves(ctx context.Context) {
	ticker := time.NewTicker(waveQuiet / 6)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		v.mu.Lock()
		wave := v.wave
		over := wave != nil && wave.back == wave.Chats && time.Since(wave.lastLoss) > waveQuiet
		if over {
			v.wave, v.lastWave = nil, *wave
		}
		v.mu.Unlock()
		if over {
			v.options.Story.Tell(Good, "Moved", fmt.Sprintf("%s reconnected to %s in %.1f s",
				count(wave.Chats, "chat"), and(slices.Sorted(maps.Keys(wave.To))), wave.Took/1e3))
		}
	}
}

// trouble tells what a visitor didn't expect, at most once a second.
func (v *Visitors) trouble(text string) {
	v.mu.Lock()
	tell := time.Since(v.troubled) > time.Second
	if tell {
		v.troubled = time.Now()
	}
	v.mu.Unlock()
	if tell {
		v.options.Story.Tell(Bad, "Failed", text)
	}
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// and joins words: a, b and c.
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
