package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

const (
	dirMode   = 0o700
	fileMode  = 0o600
	tmpSuffix = ".tmp"
)

// disk is the one way to the directory: each step that changes it passes the
// fault hook first. Paths are relative to the directory, which os.Root doesn't
// let them leave, not by a symbolic link either.
type disk struct {
	root  *os.Root
	fault func(op, path string) error // see Options.Fault
}

func (d *disk) step(op, name string) error {
	if d.fault == nil {
		return nil
	}
	return d.fault(op, name)
}

// replace writes a file durably and all at once:
//
//	create NAME.tmp → write → sync → rename to NAME → sync of the directory
//
// On an error before the rename the old file stands; after it, old or new.
func (d *disk) replace(name string, data []byte) error {
	tmp := name + tmpSuffix
	err := d.writeNew(tmp, data)
	if err == nil {
		err = d.rename(tmp, name)
	}
	if err != nil {
		_ = d.remove(tmp) // it may not exist; Open removes it otherwise
		return err
	}
	return d.syncDir(path.Dir(name))
}

func (d *disk) writeNew(name string, data []byte) error {
	f, err := d.create(name)
	if err != nil {
		return err
	}
	if err = d.step("write", name); err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = d.sync(f, name)
	}
	return errors.Join(err, f.Close())
}

func (d *disk) create(name string) (*os.File, error) {
	if d.exists(name) { // a leftover that couldn't be removed when it failed
		if err := d.remove(name); err != nil {
			return nil, err
		}
	}
	if err := d.step("create", name); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(fileMode); err != nil { // the umask may have taken away from it
		f.Close()
		return nil, err
	}
	return f, nil
}

// appendTo writes data at the given offset of a file and syncs it; what stands
// behind the offset is the rest of an append that failed, and goes. A missing
// file is created. On an error the file ends at the offset again, if the disk
// allows.
func (d *disk) appendTo(name string, offset int64, data []byte) error {
	if err := d.step("append", name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := d.cut(f, name, offset); err != nil {
		return err
	}
	if _, err = f.WriteAt(data, offset); err == nil {
		err = d.sync(f, name)
	}
	if err != nil {
		_ = d.cut(f, name, offset)
	}
	return err
}

// cut shortens an open file to size bytes if it is longer.
func (d *disk) cut(f *os.File, name string, size int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() <= size {
		return err
	}
	if err := d.step("truncate", name); err != nil {
		return err
	}
	return f.Truncate(size)
}

func (d *disk) sync(f *os.File, name string) error {
	if err := d.step("sync", name); err != nil {
		return err
	}
	return f.Sync()
}

func (d *disk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	return d.root.Rename(from, to)
}

func (d *disk) remove(name string) error {
	if err := d.step("remove", name); err != nil {
		return err
	}
	return d.root.Remove(name)
}

// drop removes a file durably; it may be gone already, but perhaps by a try that
// failed to make it durable.
func (d *disk) drop(name string) error {
	if d.exists(name) {
		if err := d.remove(name); err != nil {
			return err
		}
	}
	return d.syncDir(path.Dir(name))
}

func (d *disk) mkdir(name string) error {
	if err := d.step("mkdir", name); err != nil {
		return err
	}
	return d.root.Mkdir(name, dirMode)
}

// chmod gives a file or directory the mode unless it has it.
func (d *disk) chmod(name string, mode fs.FileMode) error {
	info, err := d.root.Stat(name)
	if err != nil || info.Mode().Perm() == mode {
		return err
	}
	if err := d.step("chmod", name); err != nil {
		return err
	}
	return d.root.Chmod(name, mode)
}

func (d *disk) syncDir(name string) error {
	if err := d.step("syncdir", name); err != nil {
		return err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (d *disk) exists(name string) bool {
	_, err := d.root.Lstat(name)
	return err == nil
}

func (d *disk) list(name string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// read returns a regular file of at most limit bytes; a missing file is
// ErrNotFound.
func (d *disk) read(name string, limit int64) ([]byte, error) {
	f, info, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d: %w", name, info.Size(), limit, ErrTooLarge)
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil // it was cut since; the caller gets what is there
	}
	return data[:n], err
}

func (d *disk) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: %w", name, ErrDamaged)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
