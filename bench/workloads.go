package main

import (
	"fmt"
	"strings"
)

// workload is one row for each proxy.
type workload struct {
	Name        string
	About       string
	Site        site
	Connections int
	Size        int // of the body in bytes
	New         bool
	Resume      bool
	// Idle measures memory: connections that have had one answer and wait.
	Idle bool
	// TwoLoops lets the proxy use two cores.
	TwoLoops bool
	// MostFeatures leaves out proxies that don't know the features.
	MostFeatures bool
}

// site is one of the sites that every proxy serves, each on a port of its own.
type site int

const (
	sitePlain site = iota
	siteTLS
	siteRSA
	siteReencrypt
	siteFeatures
	siteFeaturesPlain
	siteKinds
)

func (s site) secure() bool { return s != sitePlain && s != siteFeaturesPlain }

// workloads are all there are, in the order of the table.
func workloads() []workload {
	const small, middle, large = 200, 64 << 10, 1 << 20
	all := []workload{
		{Name: "plain-16", About: "small answers in clear, 16 connections", Site: sitePlain, Connections: 16, Size: small},
		{Name: "plain-256", About: "small answers in clear, 256 connections", Site: sitePlain, Connections: 256, Size: small},
		{Name: "tls-16", About: "small answers over TLS 1.3, 16 connections", Site: siteTLS, Connections: 16, Size: small},
		{Name: "tls-256", About: "small answers over TLS 1.3, 256 connections", Site: siteTLS, Connections: 256, Size: small},
		{Name: "reencrypt-256", About: "TLS to the clients and to the servers", Site: siteReencrypt, Connections: 256, Size: small},
		{Name: "features-256", About: "TLS, least connections, cookie, ACLs, headers, HSTS, log", Site: siteFeatures, Connections: 256, Size: small, MostFeatures: true},
		{Name: "features-plain-256", About: "the same in clear, and so without HSTS", Site: siteFeaturesPlain, Connections: 256, Size: small, MostFeatures: true},
		{Name: "handshake-ecdsa", About: "a full handshake for each request, ECDSA P-256", Site: siteTLS, Connections: 64, Size: small, New: true},
		{Name: "handshake-ecdsa-resumed", About: "a resumed handshake for each request", Site: siteTLS, Connections: 16, Size: small, New: true, Resume: true},
		{Name: "handshake-rsa", About: "a full handshake for each request, RSA-2048", Site: siteRSA, Connections: 64, Size: small, New: true},
		{Name: "handshake-rsa-resumed", About: "a resumed handshake for each request, RSA-2048", Site: siteRSA, Connections: 16, Size: small, New: true, Resume: true},
		{Name: "newconn", About: "a TCP connection for each request, in clear", Site: sitePlain, Connections: 32, Size: small, New: true},
		{Name: "body-64k", About: "64 KB answers in clear", Site: sitePlain, Connections: 32, Size: middle},
		{Name: "body-64k-tls", About: "64 KB answers over TLS", Site: siteTLS, Connections: 32, Size: middle},
		{Name: "body-1m", About: "1 MB answers in clear", Site: sitePlain, Connections: 16, Size: large},
		{Name: "body-1m-tls", About: "1 MB answers over TLS", Site: siteTLS, Connections: 16, Size: large},
		{Name: "plain-256-two-loops", About: "plain-256 with two loops (threads) on two cores", Site: sitePlain, Connections: 256, Size: small, TwoLoops: true},
		{Name: "idle-plain", About: "memory of an idle connection in clear", Site: sitePlain, Connections: idleConnections, Size: small, Idle: true},
		{Name: "idle-tls", About: "memory of an idle connection over TLS", Site: siteTLS, Connections: idleConnections, Size: small, Idle: true},
	}
	return all
}

// idleConnections is what maxConnections lets every proxy hold.
const idleConnections = 5000

// choose picks workloads by name, or by the beginning of a name and a star.
func choose(names []string) ([]workload, error) {
	all := workloads()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []workload
	used := map[string]bool{}
	for _, w := range all {
		for _, name := range names {
			start, star := strings.CutSuffix(name, "*")
			if name == w.Name || star && strings.HasPrefix(w.Name, start) {
				if used[name] = true; len(chosen) == 0 || chosen[len(chosen)-1].Name != w.Name {
					chosen = append(chosen, w)
				}
			}
		}
	}
	for _, name := range names {
		if !used[name] {
			return nil, fmt.Errorf("there is no workload %q; -list shows them", name)
		}
	}
	return chosen, nil
}
