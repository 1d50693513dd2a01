//go:build race

package tlsio

// raceDetector: sync.Pool forgets on purpose under it, so that allocations can't be
// counted.
const raceDetector = true
