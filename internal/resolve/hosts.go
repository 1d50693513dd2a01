package resolve

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// maxFile is how much of a file is read.
const maxFile = 1 << 20

// watchedFile tells when a file changed since it was last looked at.
type watchedFile struct {
	path string

	mu   sync.Mutex
	seen fileMark // at the last call of changed; guarded by mu
}

// fileMark is what a file that changed doesn't have in common with itself before.
type fileMark struct {
	size int64
	time time.Time
}

func (f *watchedFile) mark() fileMark {
	info, err := os.Stat(f.path)
	if err != nil {
		return fileMark{size: -1}
	}
	return fileMark{info.Size(), info.ModTime()}
}

// changed reports whether the file is another than at the last call.
func (f *watchedFile) changed() bool {
	now := f.mark()
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.seen
	f.seen = now
	return was != now
}

// read is the beginning of the file; nothing where there is none.
func (f *watchedFile) read() []byte {
	file, err := os.Open(f.path)
	if err != nil {
		return nil
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil
	}
	return data
}

// hostsFile is the machine's own table of names, read again when it changed.
type hostsFile struct {
	file watchedFile

	mu    sync.Mutex
	mark  fileMark                // of what was read; guarded by mu
	names map[string][]netip.Addr // guarded by mu
}

// find are the addresses of a name, those of IPv4 first.
func (h *hostsFile) find(host string) []netip.Addr {
	mark := h.file.mark()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names == nil || mark != h.mark {
		h.mark, h.names = mark, parseHosts(h.file.read())
	}
	return h.names[host]
}

// parseHosts reads hosts(5): an address and its names on a line.
func parseHosts(data []byte) map[string][]netip.Addr {
	names := make(map[string][]netip.Addr)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		address, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, field := range fields[1:] {
			host := normal(field)
			if list := names[host]; !slices.Contains(list, address.Unmap()) && len(list) < maxAddresses {
				names[host] = append(list, address.Unmap())
			}
		}
	}
	for _, list := range names {
		slices.SortStableFunc(list, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	}
	return names
}

// systemServers are the DNS servers of resolv.conf(5), read again when it changed.
type systemServers struct {
	file watchedFile

	mu      sync.Mutex
	mark    fileMark         // of what was read; guarded by mu
	servers []netip.AddrPort // guarded by mu; never changed
}

func (s *systemServers) list() []netip.AddrPort {
	mark := s.file.mark()
	s.mu.Lock()
	defer s.mu.Unlock()
	if mark == s.mark {
		return s.servers
	}
	s.mark, s.servers = mark, nil
	parsed, err := dns.ClientConfigFromReader(bytes.NewReader(s.file.read()))
	if err != nil {
		return nil
	}
	for _, server := range parsed.Servers {
		if a, err := netip.ParseAddr(server); err == nil {
			s.servers = append(s.servers, netip.AddrPortFrom(a, dnsPort))
		}
	}
	return s.servers
}
