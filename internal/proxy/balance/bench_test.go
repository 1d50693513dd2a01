package balance

import (
	"fmt"
	"testing"
)

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 30} {
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1 + i%3
		}
		cs := candidates(weights...)
		for _, name := range []string{"round robin", "least conn", "random", "hash"} {
			pick := pickers(cs)[name]
			for _, busy := range []bool{false, true} {
				if busy {
					for _, c := range cs {
						c.Places.Reserve()
					}
				}
				b.Run(fmt.Sprintf("%s/servers=%d/busy=%v", name, n, busy), func(b *testing.B) {
					b.ReportAllocs()
					b.RunParallel(func(pb *testing.PB) {
						for k := uint64(0); pb.Next(); k += 0x9e3779b97f4a7c15 {
							cs[pick(k, none)].Places.Release()
						}
					})
				})
				for busy && cs[0].Places.InUse() > 0 {
					for _, c := range cs {
						c.Places.Release()
					}
				}
			}
		}
	}
}

func BenchmarkNewRoundRobin(b *testing.B) {
	weights := make([]int, 100)
	for i := range weights {
		weights[i] = 97 + i
	}
	cs := candidates(weights...)
	b.ReportAllocs()
	for b.Loop() {
		NewRoundRobin(cs, nil)
	}
}
