package demo

import (
	"slices"
	"sync"
	"time"
)

// storyLines is how many lines are kept.
const storyLines = 100

// Mark is how a line of the story is marked.
type Mark string

// The marks.
const (
	Good    Mark = "ok"      // it held
	Bad     Mark = "down"    // something stopped
	Waiting Mark = "pending" // something waits, or was taken back
	Moving  Mark = "drain"   // something moves
)

// Line is something that happened.
type Line struct {
	// Number grows by one with each line.
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	Mark   Mark      `json:"mark"`
	// Word says in a word what happened, Text in a sentence.
	Word string `json:"word"`
	Text string `json:"text"`
}

// Story is what happened, newest last. The zero Story is empty. Its methods may be
// called from any goroutine.
type Story struct {
	mu    sync.Mutex
	lines []Line // guarded by mu
	last  int    // number of the newest; guarded by mu
}

// Tell adds a line.
func (s *Story) Tell(mark Mark, word, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.lines = append(s.lines, Line{s.last, time.Now(), mark, word, text})
	if len(s.lines) > storyLines {
		s.lines = slices.Delete(s.lines, 0, len(s.lines)-storyLines)
	}
}

// Lines are what is kept, newest first.
func (s *Story) Lines() []Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := slices.Clone(s.lines)
	slices.Reverse(lines)
	return lines
}
