package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
)

// reverseProxyProcess is the standard library's proxy, set up as well as it lets
// itself be: what a Go program gets without a data plane of its own.
func reverseProxyProcess(args []string) error {
	var p plan
	flags := flag.NewFlagSet("reverseproxy", flag.ContinueOnError)
	first := flags.Int("first", 0, "the first `port`")
	flags.IntVar(&p.origin, "origin", 0, "`port` of the origin")
	flags.IntVar(&p.secure, "origin-tls", 0, "`port` of the origin with TLS")
	flags.IntVar(&p.loops, "loops", 1, "processors to use")
	flags.StringVar(&p.ecdsa, "ecdsa", "", "certificate")
	flags.StringVar(&p.ecdsaKey, "ecdsa-key", "", "its key")
	flags.StringVar(&p.rsa, "rsa", "", "certificate")
	flags.StringVar(&p.rsaKey, "rsa-key", "", "its key")
	if err := flags.Parse(args); err != nil {
		return err
	}
	p.ports = portsFrom(*first)
	runtime.GOMAXPROCS(p.loops)
	failed := make(chan error)
	serve := func(s site, scheme string, origin int, certificate, key string) {
		failed <- serveReverseProxy(p.port(s), scheme, origin, certificate, key)
	}
	go serve(sitePlain, "http", p.origin, "", "")
	go serve(siteTLS, "http", p.origin, p.ecdsa, p.ecdsaKey)
	go serve(siteRSA, "http", p.origin, p.rsa, p.rsaKey)
	go serve(siteReencrypt, "https", p.secure, p.ecdsa, p.ecdsaKey)
	return <-failed
}

func serveReverseProxy(port int, scheme string, origin int, certificate, key string) error {
	target := &url.URL{Scheme: scheme, Host: fmt.Sprintf("127.0.0.1:%d", origin)}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport: &http.Transport{
			MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000, DisableCompression: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: proxy, ErrorLog: log.New(discard{}, "", 0), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	if certificate == "" {
		err = server.Serve(l)
	} else {
		err = server.ServeTLS(l, certificate, key)
	}
	return errors.Join(fmt.Errorf("port %d", port), err)
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
