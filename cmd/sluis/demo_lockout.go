package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"sluis/internal/control"
	"sluis/internal/demo"
)

// A lock-out, step by step: the API moves to a port that nobody was told; the door
// that everybody knows answers no more; nobody confirms; the change is taken back,
// and the door answers again.

const (
	// knockEvery is how often the API's door is tried meanwhile.
	knockEvery = 50 * time.Millisecond
	// knockFor is how long a try may take.
	knockFor = time.Second
)

// lockOutOnce does all that and measures it.
func (s *stage) lockOutOnce() {
	before := s.demo.visitors.Figures()
	url := s.demo.apiURL()
	s.mu.Lock()
	s.lockOut = demo.LockOutState{Active: true, Seconds: lockOutFor.Seconds(), URL: url, Reachable: true}
	s.deadline = time.Now().Add(lockOutFor)
	s.mu.Unlock()
	outcome, took, err := s.lockOutAt(url)
	s.settle()
	cut, failed := s.since(before)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lockOut.Active, s.lockOut.Cut, s.lockOut.Failed = false, cut, failed
	s.lockOut.URL, s.lockOut.Took = url, took.Seconds()
	if err != nil {
		s.lockOut.Problem = err.Error()
		s.demo.story.Tell(demo.Bad, "Failed", err.Error())
		return
	}
	s.lockOut.Outcome = fmt.Sprintf("%s Meanwhile %s cut and %s.", outcome, counted(cut, "chat"), counted(failed, "failed request"))
	s.demo.story.Tell(demo.Waiting, "Returned", s.lockOut.Outcome)
}

func (s *stage) lockOutAt(url string) (outcome string, took time.Duration, err error) {
	revision, err := s.moveAPI()
	if err != nil {
		return "", 0, err
	}
	shut := time.Now()
	s.demo.story.Tell(demo.Waiting, "Locked out", fmt.Sprintf("revision %d moved the API; %s should not answer any more", revision, url))
	shutOut, answers := false, false
	for wait := time.NewTicker(knockEvery); ; {
		pending := s.demo.appliance.engine.Status().Pending != nil
		answers = s.knock(url)
		shutOut = shutOut || !answers
		s.mu.Lock()
		s.lockOut.Reachable = answers
		s.mu.Unlock()
		if !pending && (answers || time.Since(shut) > lockOutFor+settleWithin) {
			wait.Stop()
			break
		}
		select {
		case <-s.ctx.Done():
			wait.Stop()
			return "", 0, errors.New("the demo ended meanwhile")
		case <-wait.C:
		}
	}
	took = time.Since(shut)
	return s.judgeReturn(url, revision, took, shutOut, answers)
}

func (s *stage) judgeReturn(url string, revision int, took time.Duration, shutOut, answers bool) (string, time.Duration, error) {
	running := s.demo.appliance.engine.Status().Running
	switch {
	case running == revision:
		return "", took, fmt.Errorf("somebody confirmed revision %d: the API stays at %s", revision, s.demo.apiURL())
	case !answers:
		return "", took, fmt.Errorf("%s does not answer, %.1f s after it should have come back", url, (took - lockOutFor).Seconds())
	case !shutOut:
		return "", took, fmt.Errorf("%s answered all the time, so nobody was locked out", url)
	}
	return fmt.Sprintf("%s was away for %.1f s and is back by itself, with revision %d.", url, took.Seconds(), running), took, s.forgetMove()
}

// moveAPI moves the API to another free port, with a time to confirm.
func (s *stage) moveAPI() (revision int, err error) {
	l, err := listenNear(s.demo.ports.host, 0)
	if err != nil {
		return 0, err
	}
	port := portOf(l)
	_ = l.Close() // it was only held
	c := s.demo.appliance.control
	if _, err := c.Put(demoCaller(), "system.admin.port", []byte(strconv.Itoa(int(port))), control.Match{ETag: "*"}); err != nil {
		return 0, err
	}
	applied, err := c.Apply(s.ctx, demoCaller(), control.ApplyRequest{ConfirmWithin: lockOutFor, Comment: "lock me out"})
	if err != nil {
		return 0, errors.Join(err, s.forgetMove())
	}
	s.mu.Lock()
	s.deadline = applied.Deadline
	s.mu.Unlock()
	return applied.Revision, nil
}

// forgetMove takes the move out of the candidate, where a roll back leaves it to be
// mended.
func (s *stage) forgetMove() error {
	c := s.demo.appliance.control
	port := s.demo.appliance.engine.Status().RunningDocument.System.Admin.Port
	_, err := c.Put(demoCaller(), "system.admin.port", []byte(strconv.Itoa(int(port))), control.Match{ETag: "*"})
	return err
}

// takeBack ends a lock-out before its time.
func (s *stage) takeBack() error {
	return s.demo.appliance.control.Rollback(s.ctx, demoCaller())
}

// knock reports whether the API answers at an address: a whole request, as a
// browser makes it, on a new connection.
func (s *stage) knock(url string) bool {
	ctx, cancel := context.WithTimeout(s.ctx, knockFor)
	defer cancel()
	roots, err := poolOf(s.demo.caFile)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/openapi.json", http.NoBody)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return true
}
