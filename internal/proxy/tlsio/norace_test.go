//go:build !race

package tlsio

const raceDetector = false
