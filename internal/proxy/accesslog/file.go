package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// sink takes lines on this machine: a *file or a writerSink.
type sink interface {
	// write takes whole lines, and says how many bytes of them, whole lines again,
	// are written.
	write(lines []byte) (int, error)
}

type writerSink struct{ io.Writer }

func (s writerSink) write(lines []byte) (int, error) {
	n, err := s.Write(lines)
	return wholeLines(lines[:n]), err
}

func wholeLines(b []byte) int { return bytes.LastIndexByte(b, '\n') + 1 }

// file is the log on disk:
//
//	access.log    is written
//	access.log.1  was full last
//	access.log.N  is deleted at the next rotation, N = Keep
//
// No file is ever larger than MaxBytes, unless one line is.
type file struct {
	Sink
	now       func() time.Time
	rotations *atomic.Uint64

	f    *os.File // nil = a write failed, and it is to be opened again
	size int64
	// last is when it was last written: rotation by the clock compares with it, after
	// a restart too.
	last time.Time
	// tried is when opening it again was last tried.
	tried time.Time
}

// reopenEvery is the pause between two attempts to open a file that failed.
const reopenEvery = time.Second

func (s Sink) withDefaults() Sink {
	if s.MaxBytes == 0 {
		s.MaxBytes = defaultFileBytes
	}
	return s
}

func openFile(s Sink, now func() time.Time, rotations *atomic.Uint64) (*file, error) {
	f := &file{Sink: s.withDefaults(), now: now, rotations: rotations}
	if err := f.reopen(); err != nil {
		return nil, err
	}
	f.retain()
	return f, nil
}

// reopen opens the file by its name. What is there is kept, a torn last line
// (power was cut) is ended.
func (f *file) reopen() error {
	if f.f != nil {
		f.f.Close() // nothing is buffered that its error could tell of
		f.f = nil
	}
	f.tried = f.now()
	// O_NONBLOCK: a pipe without a reader must not stop the log goroutine for ever.
	opened, err := os.OpenFile(f.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return fmt.Errorf("open the access log: %w", err)
	}
	info, err := opened.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err == nil && info.Size() > 0 {
		err = endTornLine(opened, info.Size())
	}
	if err != nil {
		opened.Close()
		return fmt.Errorf("open the access log %s: %w", f.Path, err)
	}
	f.f, f.size, f.last = opened, info.Size(), info.ModTime()
	if f.size == 0 {
		f.last = f.now()
	}
	return nil
}

func endTornLine(f *os.File, size int64) error {
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err := f.Write([]byte{'\n'})
	return err
}

func (f *file) write(lines []byte) (written int, err error) {
	if f.f == nil {
		if f.now().Sub(f.tried) < reopenEvery {
			return 0, errors.New("the access log could not be written and will be opened again")
		}
		if err := f.reopen(); err != nil {
			return 0, err
		}
	}
	if f.due() {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	for written < len(lines) {
		piece := f.fitting(lines[written:])
		if len(piece) == 0 {
			if err := f.rotate(); err != nil {
				return written, err
			}
			continue
		}
		n, err := f.f.Write(piece)
		f.last = f.now()
		if err != nil {
			return written + f.salvage(piece[:n]), fmt.Errorf("write the access log: %w", err)
		}
		f.size += int64(n)
		written += n
	}
	return written, nil
}

// fitting is what of the lines fits into the present file; one line alone always
// fits an empty one.
func (f *file) fitting(lines []byte) []byte {
	room := f.MaxBytes - f.size
	if int64(len(lines)) <= room {
		return lines
	}
	if n := wholeLines(lines[:max(room, 0)]); n > 0 || f.size > 0 {
		return lines[:n]
	}
	return lines[:bytes.IndexByte(lines, '\n')+1]
}

// salvage cuts off the line that a failed write tore, and gives up the file until
// it is opened again.
func (f *file) salvage(written []byte) int {
	whole := wholeLines(written)
	_ = f.f.Truncate(f.size + int64(whole)) // else reopen ends the torn line
	f.f.Close()
	f.f = nil
	f.tried = f.now()
	return whole
}

// due reports whether the clock has passed a multiple of RotateEvery since the
// last write.
func (f *file) due() bool {
	every := f.RotateEvery
	return every > 0 && f.size > 0 && f.last.UnixNano()/int64(every) != f.now().UnixNano()/int64(every)
}

// rotate moves the file away and begins a new one. Where it can't, the present
// file grows no further: lines are lost and counted rather than the disk filled.
func (f *file) rotate() error {
	if f.Keep == 0 {
		if err := f.f.Truncate(0); err != nil {
			return fmt.Errorf("empty the access log: %w", err)
		}
		f.size, f.last = 0, f.now()
		f.rotations.Add(1)
		return nil
	}
	for n := f.Keep; n > 1; n-- {
		if err := os.Rename(f.rotated(n-1), f.rotated(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate the access log: %w", err)
		}
	}
	if err := os.Rename(f.Path, f.rotated(1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate the access log: %w", err)
	}
	f.rotations.Add(1)
	err := f.reopen()
	f.retain()
	return err
}

func (f *file) rotated(n int) string { return f.Path + "." + strconv.Itoa(n) }

func (f *file) tend() {
	if f.f != nil && f.due() {
		_ = f.rotate() // tried again by the next write, which tells
	}
	f.retain()
}

// retain deletes rotated files that are too many or too old.
func (f *file) retain() {
	for n := 1; ; n++ {
		info, err := os.Stat(f.rotated(n))
		if err != nil {
			if n > f.Keep {
				return
			}
			continue
		}
		if n > f.Keep || f.MaxAge > 0 && f.now().Sub(info.ModTime()) > f.MaxAge {
			_ = os.Remove(f.rotated(n)) // tried again in a minute
		}
	}
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
