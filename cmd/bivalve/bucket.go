package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"bivalve/server"

	"github.com/spf13/cobra"
)

func bucketCommand() *cobra.Command {
	c := &cobra.Command{Use: "bucket", Short: "What buckets hold, and their quotas"}
	c.AddCommand(bucketListCommand(), bucketUsageCommand(), bucketQuotaCommand())
	return c
}

func bucketListCommand() *cobra.Command {
	var at adminFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List all buckets with what they hold", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []server.BucketReport{}
			for more := true; more; {
				q := url.Values{}
				if len(all) > 0 {
					q.Set("after", all[len(all)-1].Name)
				}
				var page server.BucketsReport
				if _, err := at.ask(cmd.Context(), http.MethodGet, "/v1/buckets", q, &page); err != nil {
					return err
				}
				all = append(all, page.Buckets...)
				more = page.More && len(page.Buckets) > 0
			}
			return showBuckets(cmd.OutOrStdout(), asJSON, all, all)
		},
	}
	at.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func bucketUsageCommand() *cobra.Command {
	var at adminFlags
	var asJSON bool
	c := &cobra.Command{
		Use: "usage BUCKET", Short: "Tell what a bucket holds", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var b server.BucketReport
			if _, err := at.ask(cmd.Context(), http.MethodGet, "/v1/buckets/"+url.PathEscape(args[0]), nil, &b); err != nil {
				return err
			}
			return showBuckets(cmd.OutOrStdout(), asJSON, b, []server.BucketReport{b})
		},
	}
	at.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func bucketQuotaCommand() *cobra.Command {
	var at adminFlags
	var size string
	var objects int64
	var none, asJSON bool
	c := &cobra.Command{
		Use: "quota BUCKET", Short: "Limit what a bucket may hold", Args: cobra.ExactArgs(1),
		Long: "Sets both limits of a bucket: what is not given is not limited. All versions count. What the bucket\n" +
			"holds already stays, and deleting is always possible; writes that would go beyond are answered\n" +
			"403 QuotaExceeded.",
		Example: "  bivalve admin bucket quota photos --bytes 2TiB --objects 1000000\n  bivalve admin bucket quota photos --none",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if size != "" {
				n, err := server.ParseSize(size)
				if err != nil {
					return err
				}
				q.Set("bytes", strconv.FormatInt(int64(n), 10))
			}
			if cmd.Flags().Changed("objects") {
				q.Set("objects", strconv.FormatInt(objects, 10))
			}
			if none == (len(q) > 0) {
				return errors.New("give --bytes, --objects or both, or else --none")
			}
			if none {
				q.Set("none", "true")
			}
			var b server.BucketReport
			if _, err := at.ask(cmd.Context(), http.MethodPost, "/v1/buckets/"+url.PathEscape(args[0])+"/quota", q, &b); err != nil {
				return err
			}
			return showBuckets(cmd.OutOrStdout(), asJSON, b, []server.BucketReport{b})
		},
	}
	at.add(c)
	c.Flags().StringVar(&size, "bytes", "", "most bytes of all versions, such as 500GiB")
	c.Flags().Int64Var(&objects, "objects", 0, "most versions")
	c.Flags().BoolVar(&none, "none", false, "take the limits away")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// showBuckets prints v as JSON, or the list as a table.
func showBuckets(out io.Writer, asJSON bool, v any, list []server.BucketReport) error {
	if asJSON {
		return writeJSON(out, v)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BUCKET\tOBJECTS\tVERSIONS\tMARKERS\tBYTES\tUPLOADS\tTHEIR BYTES\tQUOTA")
	for _, b := range list {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%d\t%s\t%s\n", b.Name, b.Objects, b.Versions, b.Markers, bytesText(b.Bytes), b.Uploads, bytesText(b.UploadBytes), quotaText(b))
	}
	return w.Flush()
}

func quotaText(b server.BucketReport) string {
	switch {
	case b.MaxBytes > 0 && b.MaxObjects > 0:
		return fmt.Sprintf("%s, %d objects", bytesText(b.MaxBytes), b.MaxObjects)
	case b.MaxBytes > 0:
		return bytesText(b.MaxBytes)
	case b.MaxObjects > 0:
		return fmt.Sprintf("%d objects", b.MaxObjects)
	}
	return "-"
}
