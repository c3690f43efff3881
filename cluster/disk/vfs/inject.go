package vfs

// Hook is asked before each call. With apply the call is made, and a non-nil err
// is reported all the same: "done but reported failed" is another bug than
// "failed". Without apply a nil err reports success of what was not done.
type Hook func(op Op, name string) (apply bool, err error)

// Inject wraps a file system with a hook. The hook must be safe for concurrent
// use.
func Inject(fs FS, hook Hook) FS {
	return Wrap(fs, func(op Op, name string, call func() error) error {
		apply, err := hook(op, name)
		if apply {
			if cerr := call(); cerr != nil {
				return cerr
			}
		}
		return err
	})
}
