package config

import (
	"slices"
	"strings"

	"sluis/internal/text"
)

// What only the whole of a part shows: the machine's ways in, its people, and
// who is told what.

func (c *checker) checkSystem() {
	c.admin()
	c.outgoingProxy()
	c.administrators()
	c.notifications()
	c.logTargets()
	c.schedules()
	c.policyTests()
	c.maintenanceWindows()
	c.pair()
}

func (c *checker) admin() {
	admin := &c.doc.System.Admin
	if admin.Protocol == AdminHTTP {
		c.warn("system.admin.protocol", text.M("passwords travel in clear text")).
			Do(text.M("use https; without a certificate Sluis makes its own"))
	}
	eachOpenNetwork("system.admin.sources", admin.Sources, func(path string) {
		c.hint(path, text.M("this lets every source in, as an empty list does"))
	})
	eachOpenNetwork("system.admin.login_protection.pass_list", admin.LoginProtection.PassList, func(path string) {
		c.warn(path, text.M("nobody is ever blocked: this holds for every source"))
	})
	c.serverCertificate("system.admin.certificate", admin.Certificate)
	c.managementInterfaces()
	ssh := &c.doc.System.SSH
	if ssh.Enabled && ssh.KeyOnly && !slices.ContainsFunc(c.doc.Administrators, func(a Administrator) bool { return len(a.SSHKeys) > 0 && !a.Disabled }) {
		c.hint("system.ssh.key_only", text.M("public keys alone are taken, and no administrator of this document has one"))
	}
}

// eachOpenNetwork visits the networks that hold for every address.
func eachOpenNetwork(list string, networks []string, visit func(path string)) {
	each(list, networks, func(path string, network *string) {
		if *network == "0.0.0.0/0" || *network == "::/0" {
			visit(path)
		}
	})
}

// managementInterfaces warns before administrators are left with the console.
func (c *checker) managementInterfaces() {
	names := c.doc.System.Admin.Interfaces
	down := 0
	each("system.admin.interfaces", names, func(path string, name *string) {
		if i := c.interfaces[*name]; i != nil && i.Disabled {
			down++
			c.warn(path, text.M("the interface {name} is disabled", "name", *name))
		}
	})
	if down > 0 && down == len(names) {
		c.add("system.admin.interfaces", text.M("all management interfaces are disabled: nobody could reach this appliance over the network")).
			Do(text.M("name an interface that is up, or leave the list empty"))
	}
}

func (c *checker) outgoingProxy() {
	proxy := &c.doc.System.OutgoingProxy
	switch {
	case proxy.URL == "" && (proxy.Username != "" || !proxy.Password.IsZero()):
		c.warn("system.outgoing_proxy.url", text.M("name and password are given, but no proxy"))
	case proxy.Username == "" && !proxy.Password.IsZero():
		c.add("system.outgoing_proxy.username", text.M("the password has no name to go with"))
	case strings.Contains(proxy.Username, ":"):
		c.add("system.outgoing_proxy.username", text.M("a name can't hold a colon: what follows it would be read as the password"))
	}
}

func (c *checker) administrators() {
	people := c.doc.Administrators
	if len(people) > 0 && !slices.ContainsFunc(people, func(a Administrator) bool { return a.Role == RoleAdministrator && !a.Disabled }) {
		c.add("administrators", text.M("nobody could change the configuration: no account that is enabled has the role administrator"))
	}
	each("administrators", people, func(path string, a *Administrator) {
		if password, inline := a.Password.Inline(); inline && strings.TrimSpace(password) == "" {
			c.add(path+".password", text.M("a password of blanks is none"))
		}
	})
}

func (c *checker) notifications() {
	n := &c.doc.Notifications
	each("notifications.rules", n.Rules, func(path string, r *NotificationRule) {
		if len(r.Events) == 0 {
			c.warn(path+".events", text.M("the rule tells nothing: it names no event"))
		}
		if len(r.Channels) == 0 {
			c.warn(path+".channels", text.M("the rule tells nobody: it names no channel"))
		}
	})
	each("notifications.channels", n.Channels, func(path string, _ *NotificationChannel) {
		if !c.used[path] {
			c.hint(path, text.M("no notification rule uses this channel"))
		}
	})
}

func (c *checker) logTargets() {
	type place struct {
		kind    LogTargetType
		address string
	}
	first := map[place]string{}
	each("logging.targets", c.doc.Logging.Targets, func(path string, t *LogTarget) {
		key := place{t.Type, t.Address}
		if other, twice := first[key]; twice {
			c.warn(path, text.M("the same target gets every line a second time: see {other}", "other", other))
			return
		}
		first[key] = path
	})
}

func (c *checker) schedules() {
	each("schedules", c.doc.Schedules, func(path string, s *Schedule) {
		each(path+".ranges", s.Ranges, func(path string, r *ScheduleRange) {
			if r.From != "" && r.From == r.To {
				c.add(path+".to", text.M("the range ends when it begins")).Do(text.M("for the whole day, leave both times empty"))
			}
			if r.Starts != nil && r.Ends != nil && !r.Starts.Before(*r.Ends) {
				c.add(path+".ends", text.M("the range ends before it starts"))
			}
		})
	})
}

func (c *checker) policyTests() {
	each("policy_tests", c.doc.PolicyTests, func(path string, t *PolicyTest) {
		answered := t.ExpectStatus != 0 || t.ExpectLocation != ""
		switch {
		case t.ExpectBackend == "" && !answered:
			c.warn(path, text.M("the test expects nothing, so it can't fail"))
		case t.ExpectBackend != "" && answered:
			c.add(path+".expect_backend", text.M("a request goes to a backend or is answered by Sluis itself: the test expects both"))
		case t.ExpectStatus > 0 && t.ExpectStatus < 100:
			c.add(path+".expect_status", text.M("{value} is out of range: {min} to {max}", "value", t.ExpectStatus, "min", 100, "max", 599))
		case t.ExpectLocation != "" && t.ExpectStatus != 0 && t.ExpectStatus/100 != 3:
			c.add(path+".expect_status", text.M("an answer that leads to another place has a status of 301 to 308"))
		}
		f := c.frontends[t.Frontend]
		if f == nil {
			return
		}
		if f.Disabled {
			c.warn(path+".frontend", text.M("the frontend {name} is disabled: nothing answers", "name", f.Name))
		}
		if f.Type != FrontendHTTP {
			c.add(path+".frontend", text.M("the frontend {name} is of type {type}: a test sends HTTP requests", "name", f.Name, "type", f.Type))
		}
	})
}

func (c *checker) maintenanceWindows() {
	each("maintenance_windows", c.doc.MaintenanceWindows, func(path string, w *MaintenanceWindow) {
		b := c.backends[w.Backend]
		if b == nil || len(w.Servers) == 0 {
			return
		}
		left := slices.ContainsFunc(b.Servers, func(s Server) bool {
			return !s.Disabled && !slices.Contains(w.Servers, s.Name)
		})
		if !left {
			c.warn(path+".servers", text.M("during this window no server of {backend} is left", "backend", w.Backend))
		}
	})
}

func (c *checker) pair() {
	if c.doc.Pair == nil {
		return
	}
	peer, said := parseAddress(c.doc.Pair.Peer)
	if !said.none() {
		return
	}
	near := false
	for _, own := range c.networks {
		if own.prefix.Addr() == peer {
			c.add("pair.peer", text.M("{address} is this appliance's own address, of the interface {interface}", "address", peer, "interface", own.name))
			return
		}
		near = near || own.name == c.doc.Pair.Interface && own.prefix.Contains(peer)
	}
	if !near && c.staticOn(c.doc.Pair.Interface, peer) {
		c.warn("pair.peer", text.M("{address} is outside of the networks of {interface}", "address", peer, "interface", c.doc.Pair.Interface)).
			Do(text.M("a pair wants a network of its own, without a router between the two"))
	}
}
