package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"text/template"

	"sluis/internal/auth"
	"sluis/internal/control"
	"sluis/internal/demo"
)

const (
	// demoBackend and demoFrontend are the site's.
	demoFrontend = "ece"
	demoBackend  = "ece-web"
	// changeRule is the rule that changes when changes are applied: it puts a number
	// into each answer.
	changeRule = "demo-change"
	// changeField is the header field that holds the number.
	changeField = "X-Demo-Change"
)

// demoDocument is the site of the guide: chats over three servers that are spoken
// to over TLS, asked for their health, and kept to by a cookie.
const demoDocument = `format: 1
system:
  hostname: demo
  admin: {port: {{.AdminPort}}}
load_balancer:
  enabled: true
  max_connections: 10000
  stats: {port: {{.StatsPort}}, refresh: 2s}
authorities:
  - {name: demo, description: Made by the demo for itself, certificate: {{json .Authority}}}
certificates:
  - {name: chat, certificate: {{json .Certificate}}, key: {{json .Key}}}
frontends:
  - name: {{.Frontend}}
    description: ECE site
    type: http
    binds:
      - {name: https, address: 127.0.0.1, port: {{.SitePort}}, tls: true}
      - {name: http, address: 127.0.0.1, port: {{.PlainPort}}}
    tls:
      certificates: [chat]
      host_rule_from_certificate: true
    rules:
      - {name: to-https, when: "not is_tls", redirect: {scheme: https, host: "{{.Site}}", code: 301}}
      - {name: {{.ChangeRule}}, set_header: {of: response, field: {{.ChangeField}}, value: "0"}}
    default_backend: {{.Backend}}
backends:
  - name: {{.Backend}}
    balance: leastconn
    servers:
{{- range .Servers}}
      - {name: {{.Name}}, address: 127.0.0.1, host: {{.Name}}.demo.test, port: {{.Port}}, tls: true, cookie: {{.Name}}}
{{- end}}
    server_tls: {verify: authority, authority: demo}
    check:
      type: http
      method: GET
      path: "{{.HealthPath}}?partitionId=1"
      host: "{server}"
      interval: 1s
      rise: 2
      fall: 3
      log: true
    persistence:
      cookie: {name: ECELB, mode: insert}
    hsts: {max_age: 300s}
    timeouts: {connect: 30s, server: 30s, tunnel: 1h}
    retries: 3
`

// demoCaller is who changes the configuration from the control room.
func demoCaller() control.Caller {
	who := auth.Identity{Account: "control-room", FullName: "the demo's control room", Role: auth.Administrator}
	return control.Caller{Identity: who, From: loopback, Via: "gui"}
}

// applyDocument brings the demo's configuration about, through the door that
// everybody uses.
func (d *demoRun) applyDocument(ctx context.Context) error {
	document, err := d.document()
	if err != nil {
		return err
	}
	caller := demoCaller()
	if _, err := d.appliance.control.Load(caller, document, control.Match{ETag: "*"}); err != nil {
		return fmt.Errorf("load the demo's configuration: %w", err)
	}
	if _, err := d.appliance.control.Apply(ctx, caller, control.ApplyRequest{Comment: "the demo"}); err != nil {
		return fmt.Errorf("apply the demo's configuration: %w", err)
	}
	return nil
}

// demoHosts are the names of the site.
func demoHosts() []string { return []string{"chat.demo.test", "localhost", loopback, "::1"} }

func (d *demoRun) document() ([]byte, error) {
	certificate, err := d.authority.Issue(demoHosts()...)
	if err != nil {
		return nil, err
	}
	type server struct{ Name, Port string }
	var servers []server
	for _, s := range d.servers {
		servers = append(servers, server{s.Name(), s.Address()[len(loopback)+1:]})
	}
	quoted := template.FuncMap{"json": func(text []byte) (string, error) {
		data, err := json.Marshal(string(text))
		return string(data), err
	}}
	var out bytes.Buffer
	err = template.Must(template.New("document").Funcs(quoted).Parse(demoDocument)).Execute(&out, map[string]any{
		"AdminPort": d.ports.admin, "StatsPort": d.ports.stats, "SitePort": d.ports.site, "PlainPort": d.ports.plain,
		"Authority": d.authority.PEM(), "Certificate": certificate.Certificate, "Key": certificate.Key,
		"Site": d.siteAddress(), "Frontend": demoFrontend, "Backend": demoBackend, "Servers": servers,
		"HealthPath": demo.HealthPath, "ChangeRule": changeRule, "ChangeField": changeField,
	})
	return out.Bytes(), err
}

// changeTo makes the candidate put another number into each answer.
func (d *demoRun) changeTo(value int) error {
	rule, err := json.Marshal(map[string]any{
		"set_header": map[string]string{"of": "response", "field": changeField, "value": strconv.Itoa(value)},
	})
	if err != nil {
		return err
	}
	path := fmt.Sprintf("frontends[%s].rules[%s]", demoFrontend, changeRule)
	_, err = d.appliance.control.Put(demoCaller(), path, rule, control.Match{ETag: "*"})
	return err
}
