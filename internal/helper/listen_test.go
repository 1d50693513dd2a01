package helper

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func noEnvironment(string) string { return "" }

func TestListenerAtAPath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	first, err := Listener(path, noEnvironment)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listener(path, noEnvironment); err == nil || !strings.Contains(err.Error(), "another process answers there") {
		t.Errorf("a second helper: %v, want a refusal", err)
	}
	// A helper that is killed leaves its socket.
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close()
	second, err := Listener(path, noEnvironment)
	if err != nil {
		t.Fatalf("after a killed helper: %v", err)
	}
	second.Close()

	datagram, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listener(path, noEnvironment); err == nil || !strings.Contains(err.Error(), "a socket that may be alive") {
		t.Errorf("on a socket of another kind: %v, want a refusal", err)
	}
	datagram.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listener(path, noEnvironment); err == nil || !strings.Contains(err.Error(), "a file that is no socket") {
		t.Errorf("on a file: %v, want a refusal", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file is now %q (%v)", data, err)
	}
	if err := os.Symlink(path, path+"link"); err != nil {
		t.Fatal(err)
	}
	if _, err := Listener(path+"link", noEnvironment); err == nil {
		t.Error("a symbolic link was followed")
	}
}

// TestSocketActivation passes a listening socket to a process of its own as
// systemd does: descriptor 3, and the variables name the very process.
func TestSocketActivation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	file, err := listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	// As systemd holds it too, the socket takes calls before the helper runs.
	identity := make(chan Identity)
	go func() {
		id, err := Dial(path).Identify(t.Context())
		if err != nil {
			t.Error(err)
		}
		identity <- id
	}()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"=serve "+filepath.Join(t.TempDir(), "unused"))
	cmd.ExtraFiles = []*os.File{file}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	file.Close()
	listener.Close()
	if got := <-identity; got.PID != cmd.Process.Pid || got.Version != "of the child" {
		t.Errorf("Identify = %+v, want the child %d", got, cmd.Process.Pid)
	}
	input.Close()
	if err := cmd.Wait(); err != nil || output.String() != "<nil>\n" {
		t.Errorf("the child ended with %v and says %q", err, output.String())
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the child removed systemd's socket: %v", err)
	}
}

func TestSocketActivationRefusals(t *testing.T) {
	notSocket, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer notSocket.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	tcpFile, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcpFile.Close()
	for _, tt := range []struct {
		name, variables string
		passed          []*os.File
		want            string
	}{
		{"a file", "LISTEN_PID=$$ LISTEN_FDS=1", []*os.File{notSocket}, "socket activation: "},
		{"a TCP socket", "LISTEN_PID=$$ LISTEN_FDS=1", []*os.File{tcpFile}, "a socket of the kind tcp was passed, want unix"},
		{"two sockets", "LISTEN_PID=$$ LISTEN_FDS=2", []*os.File{tcpFile, tcpFile}, "2 sockets were passed, want 1"},
		{"no number", "LISTEN_PID=$$ LISTEN_FDS=x", nil, `LISTEN_FDS is "x", want a number`},
		{"another process's", "LISTEN_PID=1 LISTEN_FDS=1", []*os.File{notSocket}, "<nil>"}, // listens at its path
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", tt.variables+` exec "$0"`, os.Args[0])
			cmd.Env = append(os.Environ(), childMode+"=serve "+filepath.Join(t.TempDir(), "s"))
			cmd.ExtraFiles = tt.passed
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("the child ended with %v and says %q, want %q", err, out, tt.want)
			}
		})
	}
}
