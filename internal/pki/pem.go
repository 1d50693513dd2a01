package pki

import (
	"bytes"
	"encoding/pem"
	"strings"
)

// Bounds on what is read. A private key of the largest kind takes 7 KiB of PEM
// text; a chain of 64 certificates of 4 KiB each is far more than TLS clients take.
const (
	maxKeyBytes   = 64 << 10
	maxChainBytes = 256 << 10
	maxChain      = 64
)

// armour is what stands in PEM text.
type armour struct {
	blocks []*pem.Block
	// damaged tells that a block begins which cannot be read to its end.
	damaged bool
}

// readArmour finds the PEM blocks in text as people paste it: with a byte order
// mark, any line ends, indented, and with other text around the blocks.
func readArmour(data []byte) armour {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	lines := strings.Split(text, "\n")
	begun := 0
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
		begun += strings.Count(line, "-----BEGIN ")
	}
	var a armour
	rest := []byte(strings.Join(lines, "\n"))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		a.blocks = append(a.blocks, block)
	}
	a.damaged = begun != len(a.blocks)
	return a
}
