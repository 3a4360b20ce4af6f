// Package check is what both Go programs need beside their client: steps, claims, patience, and members of groups in
// processes of their own, which can be killed.
package check

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Patience is how long anything may take.
const Patience = 60 * time.Second

// Step is a named check; it panics when something isn't as it should be.
type Step struct {
	What string
	Run  func()
}

// Run runs all steps and ends the process.
func Run(client string, steps []Step) {
	failures := 0
	for _, step := range steps {
		begin := time.Now()
		if failed := try(step.Run); failed != nil {
			failures++
			fmt.Printf("FAILED  %s: %s\n%v\n", client, step.What, failed)
			continue
		}
		fmt.Printf("ok  %s: %s  %d ms\n", client, step.What, time.Since(begin).Milliseconds())
	}
	if failures > 0 {
		fmt.Fprintf(os.Stderr, "%d checks failed\n", failures)
		os.Exit(1)
	}
}

func try(run func()) (failed any) {
	defer func() {
		if failed = recover(); failed != nil {
			failed = fmt.Sprintf("%v\n%s", failed, debug.Stack())
		}
	}()
	run()
	return nil
}

// Name is a name that nobody else has.
func Name(what string) string {
	bytes := make([]byte, 4)
	That("randomness", Must(rand.Read(bytes)) == 4)
	return what + "-" + hex.EncodeToString(bytes)
}

// Must is the value of a call that may not fail.
func Must[T any](value T, err error) T {
	Ok(err)
	return value
}

// Ok claims that there is no error.
func Ok(err error) {
	if err != nil {
		panic(err)
	}
}

// That claims something.
func That(what string, holds bool) {
	if !holds {
		panic(what)
	}
}

// Same claims that a value is the expected one.
func Same[T comparable](what string, is, expected T) {
	if is != expected {
		panic(fmt.Sprintf("%s: is %v, expected %v", what, is, expected))
	}
}

// Numbers claims that the values are the numbers from one to before the other, each once.
func Numbers(what string, values []string, from, to int) {
	numbers := make([]int, 0, len(values))
	for _, value := range values {
		numbers = append(numbers, Must(strconv.Atoi(value)))
	}
	sort.Ints(numbers)
	Same(what+": count", len(numbers), to-from)
	for nth, number := range numbers {
		Same(what, number, from+nth)
	}
}

// Until waits for something.
func Until(what string, holds func() bool) {
	end := time.Now().Add(Patience)
	for !holds() {
		That(what+", within "+Patience.String(), time.Now().Before(end))
		time.Sleep(50 * time.Millisecond)
	}
}

// Member is a member of a group in a process of its own.
type Member struct {
	command    *exec.Cmd
	input      io.WriteCloser
	lock       sync.Mutex
	partitions int
	committed  map[string]bool
	listened   chan struct{}
}

// Start starts this program again, with other arguments.
func Start(arguments ...string) *Member {
	command := exec.Command(os.Args[0], arguments...)
	command.Stderr = os.Stderr
	member := &Member{command: command, committed: map[string]bool{}, listened: make(chan struct{})}
	member.input = Must(command.StdinPipe())
	lines := bufio.NewScanner(Must(command.StdoutPipe()))
	lines.Buffer(nil, 1<<20)
	Ok(command.Start())
	go func() {
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			member.lock.Lock()
			if words[0] == "p" {
				member.partitions = Must(strconv.Atoi(words[1]))
			} else {
				for _, value := range words[1:] {
					member.committed[value] = true
				}
			}
			member.lock.Unlock()
		}
		close(member.listened)
	}()
	return member
}

// Partitions is how many it has.
func (member *Member) Partitions() int {
	member.lock.Lock()
	defer member.lock.Unlock()
	return member.partitions
}

// Kill is SIGKILL: it neither commits nor leaves.
func (member *Member) Kill() {
	Ok(member.command.Process.Kill())
	<-member.listened
	Same("how the killed member ended", fmt.Sprint(member.command.Wait()), "signal: killed")
}

// Leave asks it to leave its group, and to end.
func (member *Member) Leave() {
	Ok(member.input.Close())
	<-member.listened
	Ok(member.command.Wait())
}

// Committed is what the members together have read, and committed.
func Committed(members ...*Member) []string {
	all := map[string]bool{}
	for _, member := range members {
		member.lock.Lock()
		for value := range member.committed {
			all[value] = true
		}
		member.lock.Unlock()
	}
	values := make([]string, 0, len(all))
	for value := range all {
		values = append(values, value)
	}
	return values
}

// Killed is the check itself: two members, of which one is killed while the other takes over. Produce writes numbers.
func Killed(start func() *Member, produce func(from, to int)) {
	one, two := start(), start()
	Until("each has a half", func() bool { return one.Partitions() == 2 && two.Partitions() == 2 })
	produce(0, 400)
	Until("both together read all", func() bool { return len(Committed(one, two)) == 400 })
	That("each has read", len(Committed(one)) > 0 && len(Committed(two)) > 0)
	one.Kill()
	produce(400, 800)
	Until("the other has all partitions", func() bool { return two.Partitions() == 4 })
	Until("nothing is lost", func() bool { return len(Committed(one, two)) == 800 })
	two.Leave()
}

// Ended is closed when the standard input ends: that is how a member is asked to leave.
func Ended() chan struct{} {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	return ended
}

// Codecs are all that there are.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// CodecCount is how many records each client writes in each codec.
const CodecCount = 300

// CodecTopic is the topic of a client's records.
func CodecTopic(run, writer, codec string) string {
	return "codecs-" + run + "-" + writer + "-" + codec
}

// CodecValue is the value of a record; each 50th is null.
func CodecValue(number int) []byte {
	if number%50 == 49 {
		return nil
	}
	return []byte(strconv.Itoa(number) + ":" + strings.Repeat("abcdefghij", number*37%500))
}

// CodecRecord claims that a record that was read is what was written.
func CodecRecord(writer, codec string, number int, offset int64, key, value, header []byte) {
	what := writer + " " + codec + " " + strconv.Itoa(number)
	Same(what+": offset", offset, int64(number))
	Same(what+": key", string(key), writer+"-"+strconv.Itoa(number))
	Same(what+": null", value == nil, CodecValue(number) == nil)
	That(what+": value", string(value) == string(CodecValue(number)))
	Same(what+": header", string(header), codec)
}
