// A franz-go client as anybody would write one: creates a topic, produces with acks=all, and consumes in a group.
// Usage: tunnelclient BOOTSTRAP TOPIC GROUP RECORDS. Prints one JSON object; exit code 1 with the reason otherwise.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(bootstrap, topic, group, countText string) error {
	count, err := strconv.Atoi(countText)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, 6, 3, nil, topic); err != nil {
		return err
	}
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(i)), Value: []byte(fmt.Sprintf("value-%d", i))}
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for len(seen) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("after %d records: %w", len(seen), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	metadata, err := admin.Metadata(ctx, topic)
	if err != nil {
		return err
	}
	ports := map[int32]int32{}
	for _, broker := range metadata.Brokers {
		ports[broker.NodeID] = broker.Port
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"records": len(seen), "ports": ports})
}
