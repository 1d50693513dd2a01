package main

import "testing"

// TestGuide walks the guide's steps from the load balancer's settings to its checks
// from end to end, through the API of the real binary, and asks HAProxy for the same
// wherever it has an opinion. Steps that only look share one stage; who stops
// servers, waits or changes the configuration has one of its own.
func TestGuide(t *testing.T) {
	l := newLab(t)
	settings := newGuideStage(t, l, "web1", "web2")
	for _, s := range []guideStep{
		{"G39_save_and_apply", saveAndApply},
		{"G35_enable", enable},
		{"G36_maximum_connections", maximumConnections},
		{"G37_stats_port", statsPort},
		{"G38_stats_refresh", statsRefresh},
	} {
		settings.step(t, s.name, s.run)
	}
	settings.end()

	site := newGuideStage(t, l, "web1", "web2")
	site.guide()
	for _, s := range []guideStep{
		{"G40_backend_name", backendName},
		{"G41_server_list", serverList},
		{"G42_least_connections", leastConnectionsChosen},
		{"G43_defaults", backendDefaults},
		{"G44_http_check", httpCheck},
		{"G45_check_frequency", checkFrequency},
		{"G47_check_method", checkMethod},
		{"G48_check_url", checkURL},
		{"G49_check_version_and_host", checkHost},
		{"G51_cookie", cookieInsert},
		{"G52_hsts", hsts},
		{"G53_save", saveBackend},
		{"G54_frontend_name", frontendName},
		{"G55_external_address", externalAddress},
		{"G56_type_and_maximum", frontendType},
		{"G57_default_backend", defaultBackend},
		{"G59_certificate", certificateAndNames},
		{"G60_apply", applyFrontend},
		{"G61_chain", chainShown},
		{"G65_unknown_hosts", unknownHosts},
		{"G66_restart_and_restore", restartAndRestore},
	} {
		site.step(t, s.name, s.run)
	}
	site.end()

	for _, s := range []struct {
		name string
		run  func(t *testing.T, l *lab)
	}{
		{"G46_log_checks", logChecks},
		{"G49_one_host_for_all", checkHostForAll},
		{"G50_agent_checks", agentChecks},
		{"G58_one_frontend_many_backends", hostVariant},
		{"G62_stickiness", stickiness},
		{"G63_down_and_up", downAndUp},
		{"G64_fewest_connections", fewestConnections},
		{"G67_no_server", noServer},
		{"G71_two_sites", twoSites},
		{"G81_ccmp", ccmp},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, l)
		})
	}
}

// guideStep is a step on a stage that it shares with others.
type guideStep struct {
	name string
	run  func(g *guideStage)
}

// guide brings the guide's end state about on both sides, G35 to G60: the virtual
// address and the certificates first, as it says.
func (g *guideStage) guide() {
	g.t.Helper()
	g.at = "127.0.0.80"
	g.certificate("ece", "ece.example.net", "www.ece.example.net", "*.apps.example.net", "127.0.0.80")
	g.certificate("other", "other.example.net")
	g.put(guideObjects...)
	g.apply()
	g.startHAProxy(asPfSense)
	g.allUp("ece-web")
}

// allUp waits until the checks of a backend have found all its servers well.
func (g *guideStage) allUp(backend string) {
	g.t.Helper()
	for _, s := range g.running().Backends {
		if s.Name != backend {
			continue
		}
		for _, server := range s.Servers {
			eventually(g.t, server.Name+" is up on both sides", func() bool {
				return g.server(backend, server.Name).State == "up" && g.peer.stat(backend, server.Name, "check_status") == "L7OK"
			})
		}
	}
}

// guideObjects are the guide's site as it is typed in.
var guideObjects = []object{
	{"load_balancer", `{enabled: true, max_connections: 1000, stats: {port: {{port "stats"}}, refresh: 10s}}`},
	{"interfaces[wan]", `{device: lo, ipv4: {method: none}}`},
	{"virtual_ips[ece]", `{type: ip_alias, interface: wan, address: 127.0.0.80/32, description: ECE web}`},
	{"authorities[lab-root]", `{certificate: {{root}}, trust: true, random_serial: true}`},
	{"authorities[lab-issuing]", `{certificate: {{issuing}}, trust: true, random_serial: true}`},
	{"certificates[ece]", `{certificate: {{leaf "ece"}}, key: {{key "ece"}}}`},
	{"certificates[other]", `{certificate: {{shuffled "other"}}, key: {{key "other"}}}`},
	{"backends[ece-web]", guideBackend},
	{"frontends[ece]", guideFrontend},
}

// guideBackend is G40 to G52.
const guideBackend = `
balance: leastconn
servers:
  - {name: web1, address: 127.0.0.1, host: web1.lab.example.net, port: {{server "web1"}}, tls: true, cookie: w1}
  - {name: web2, address: localhost, host: web2.lab.example.net, port: {{server "web2"}}, tls: true, cookie: w2}
server_tls: {verify: none}
check:
  type: http
  method: GET
  path: "` + healthURL + `"
  host: "{server}"
  log: true
persistence: {cookie: {name: ECELB, mode: insert, http_only: false}}
hsts: {max_age: 300s}
`

// guideFrontend is G54 to G59.
const guideFrontend = `
description: ECE site
type: http
binds:
  - {name: https, address: "vip:ece", port: {{port "https"}}, tls: true}
  - {name: http, address: "vip:ece", port: {{port "http"}}}
tls: {certificates: [ece, other], host_rule_from_certificate: true}
rules:
  - {name: to-https, when: "not is_tls", redirect: {scheme: https, code: 301}}
forwarded: {for: true, proto: true, host: false, port: false}
default_backend: ece-web
`

// smallBackend is a backend of web1 and web2 without a check, for other steps.
const smallBackend = `
servers:
  - {name: web1, address: 127.0.0.1, port: {{server "web1"}}, tls: true, cookie: w1}
  - {name: web2, address: 127.0.0.1, port: {{server "web2"}}, tls: true, cookie: w2}
server_tls: {verify: none}
persistence: {cookie: {name: ECELB, http_only: false}}
`

// smallFrontend is a plain one before it.
const smallFrontend = `
binds: [{name: http, address: 127.0.0.1, port: {{port "http"}}}]
forwarded: {for: true, proto: true, host: false, port: false}
default_backend: web
`

// smallSettings keeps a stage from the ports of others of its time.
var smallSettings = object{"load_balancer", `{max_connections: 1000, stats: {port: {{port "stats"}}}}`}
