package page

import (
	"strconv"
	"strings"
	"time"

	"sluis/internal/control"
)

// columns are HAProxy 2.6's (management guide, section 9.1), in its order: tools
// find them by name or by place. What Sluis doesn't measure stays empty, as HAProxy
// leaves empty what doesn't apply.
const columns = "pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck," +
	"chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,check_code," +
	"check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt," +
	"comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration," +
	"check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,agent_health,addr,cookie,mode,algo,conn_rate," +
	"conn_rate_max,conn_tot,intercepted,dcon,dses,wrew,connect,reuse,cache_lookups,cache_hits,srv_icur,src_ilim,qtime_max,ctime_max," +
	"rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,used_conn_cur,need_conn_est,uweight"

// Types of lines.
const (
	typeFrontend = "0"
	typeBackend  = "1"
	typeServer   = "2"
)

// line is a line's fields by the names of their columns.
type line map[string]string

func appendCSV(dst []byte, st control.BalancerStatus) []byte {
	dst = append(append(append(dst, "# "...), columns...), ",\n"...)
	id := 1
	for _, f := range st.Frontends {
		id++
		dst = frontendLine(f, id).append(dst)
	}
	for _, b := range st.Backends {
		id++
		for i, s := range b.Servers {
			dst = serverLine(s, b, st.Time, id, i+1).append(dst)
		}
		dst = backendLine(b, st.Time, id).append(dst)
	}
	return dst
}

func (l line) append(dst []byte) []byte {
	for name := range strings.SplitSeq(columns, ",") {
		dst = append(appendField(dst, l[name]), ',')
	}
	return append(dst, '\n')
}

// appendField writes a field as HAProxy does (RFC 4180 section 2): in quotes only
// where it must be.
func appendField(dst []byte, s string) []byte {
	if !strings.ContainsAny(s, "\",\r\n") {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(s, `"`, `""`)...)
	return append(dst, '"')
}

func number[T int | int64 | uint64](n T) string { return strconv.FormatInt(int64(n), 10) }

// limit leaves out what has none.
func limit[T int | int64](n T) string {
	if n == 0 {
		return ""
	}
	return number(n)
}

func seconds(d time.Duration) string { return number(int64(max(d, 0) / time.Second)) }

func since(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return seconds(now.Sub(t))
}

func (l line) answers(a control.Answers) {
	l["hrsp_1xx"], l["hrsp_2xx"], l["hrsp_3xx"] = number(a.C1xx), number(a.C2xx), number(a.C3xx)
	l["hrsp_4xx"], l["hrsp_5xx"], l["hrsp_other"] = number(a.C4xx), number(a.C5xx), number(a.None)
}

func frontendLine(f control.FrontendStatus, id int) line {
	status := "OPEN"
	if f.Limit > 0 && f.Connections >= f.Limit {
		status = "FULL"
	}
	l := line{
		"pxname": f.Name, "svname": "FRONTEND", "type": typeFrontend, "pid": "1", "iid": number(id), "sid": "0", "mode": "http", "status": status,
		"scur": number(f.Connections), "slim": limit(f.Limit), "stot": number(f.TotalConnections), "conn_tot": number(f.TotalConnections),
		"bin": number(f.BytesIn), "bout": number(f.BytesOut), "dreq": number(f.Denied), "ereq": number(f.BadRequests), "req_tot": number(f.Requests),
	}
	l.answers(f.Answers)
	return l
}

// csvStatus is a server's state in HAProxy's words.
func csvStatus(s control.ServerStatus) string {
	switch s.State {
	case control.ServerDisabled, control.ServerMaintenance:
		return "MAINT"
	case control.ServerUnresolved:
		return "MAINT (resolution)"
	case control.ServerDown:
		return "DOWN"
	case control.ServerRecovered:
		return "NOLB" // up, and no client comes
	case control.ServerDrain:
		return "DRAIN"
	case control.ServerUnchecked:
		return "no check"
	}
	return "UP"
}

func serverLine(s control.ServerStatus, b control.BackendStatus, now time.Time, id, place int) line {
	l := line{
		"pxname": b.Name, "svname": s.Name, "type": typeServer, "pid": "1", "iid": number(id), "sid": number(place), "mode": "http", "status": csvStatus(s),
		"qcur": number(s.Queued), "qmax": number(s.QueueMost),
		"scur": number(s.InUse), "smax": number(s.MostUsed), "slim": limit(s.Limit), "stot": number(s.Requests), "lbtot": number(s.Balanced),
		"bin": number(s.BytesIn), "bout": number(s.BytesOut), "econ": number(s.ConnectErrors), "eresp": number(s.AnswerErrors),
		"wretr": number(s.Retries), "wredis": number(s.Redispatched), "weight": number(s.Weight), "uweight": number(s.Weight),
		"act": flag(!s.Backup), "bck": flag(s.Backup), "chkdown": number(s.Downs), "lastchg": since(s.Since, now), "downtime": seconds(s.Downtime.Std()),
		"lastsess": "-1", "addr": s.Address, "ctime": milliseconds(s.MeanConnect.Std()), "rtime": milliseconds(s.MeanAnswer.Std()), "ttime": milliseconds(s.MeanTotal.Std()),
		"connect": number(s.Connects), "reuse": number(s.Reused), "srv_icur": number(s.Idle), "idle_conn_cur": number(s.Idle), "used_conn_cur": number(s.InUse),
	}
	if s.Start < 100 {
		l["throttle"] = number(s.Start)
	}
	if !s.LastSeen.IsZero() {
		l["lastsess"] = since(s.LastSeen, now)
	}
	l.answers(s.Answers)
	if c := s.Check; c != nil {
		l["chkfail"], l["check_status"], l["last_chk"] = number(c.Bad), c.Code, c.Reason.String()
		l["check_code"], l["check_duration"] = limit(c.HTTPStatus), number(c.Duration.Std().Milliseconds())
		l["check_rise"], l["check_fall"], l["check_health"] = number(c.Rise), number(c.Fall), number(c.Health)
		if a := c.Agent; a != nil {
			l["agent_status"], l["agent_duration"], l["last_agt"] = a.Code, number(a.Duration.Std().Milliseconds()), a.Reason.String()
		}
	}
	return l
}

func milliseconds(d time.Duration) string { return number(d.Milliseconds()) }

func flag(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

func backendLine(b control.BackendStatus, now time.Time, id int) line {
	status, t := "UP", sumOf(b)
	if b.State != control.BackendUp {
		status = "DOWN"
	}
	l := line{
		"pxname": b.Name, "svname": "BACKEND", "type": typeBackend, "pid": "1", "iid": number(id), "sid": "0", "mode": "http", "algo": b.Balance, "status": status,
		"qcur": number(b.Queued), "qmax": number(b.QueueMost), "qlimit": limit(b.QueueLimit),
		"scur": number(t.InUse), "stot": number(t.Requests), "lbtot": number(t.Balanced), "bin": number(t.BytesIn), "bout": number(t.BytesOut),
		"econ": number(t.ConnectErrors), "eresp": number(t.AnswerErrors), "wretr": number(t.Retries), "wredis": number(t.Redispatched),
		"weight": number(t.Weight), "act": number(b.Active), "bck": number(b.Backups), "lastchg": since(b.Since, now), "downtime": seconds(b.Downtime.Std()),
		"connect": number(t.Connects), "reuse": number(t.Reused), "req_tot": number(t.Requests),
	}
	l.answers(t.Answers)
	return l
}

// sumOf adds up a backend's servers.
func sumOf(b control.BackendStatus) (t control.ServerStatus) {
	for _, s := range b.Servers {
		if s.NewClients && s.Backup == (b.Active == 0) {
			t.Weight += s.Weight
		}
		t.Open += s.Open
		t.InUse += s.InUse
		t.WebSockets += s.WebSockets
		t.BoundSessions += s.BoundSessions
		t.Requests += s.Requests
		t.Balanced += s.Balanced
		t.BytesIn += s.BytesIn
		t.BytesOut += s.BytesOut
		t.Connects += s.Connects
		t.Reused += s.Reused
		t.ConnectErrors += s.ConnectErrors
		t.AnswerErrors += s.AnswerErrors
		t.Retries += s.Retries
		t.Redispatched += s.Redispatched
		t.Downs += s.Downs
		a, n := &t.Answers, s.Answers
		a.C1xx, a.C2xx, a.C3xx = a.C1xx+n.C1xx, a.C2xx+n.C2xx, a.C3xx+n.C3xx
		a.C4xx, a.C5xx, a.None = a.C4xx+n.C4xx, a.C5xx+n.C5xx, a.None+n.None
	}
	return t
}
