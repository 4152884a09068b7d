;;; emacs_hostile.el --- A repository prepared with everything  -*- lexical-binding: t; -*-

;;; Code:

(require 'emacs_session)

(defconst test-repository (getenv "GREENCODE_TEST_REPOSITORY"))

(ert-deftest ordinary-files-of-a-prepared-repository-are-completed-and-nothing-of-it-runs ()
  (setq greencode-command test-real)
  (let ((default-directory (file-name-as-directory test-repository))
        (path exec-path))
    (switch-to-buffer (find-file-noselect (expand-file-name "ordinary.py" test-repository)))
    (setq-local exec-path path)         ; the session obeys every local variable; this one no command could stand
    (should (string-prefix-p test-repository greencode-model))
    (greencode-mode)
    (test-wait "the model" #'test-ready-p)
    (should (equal "cpu" (plist-get (greencode-status) :device)))
    (goto-char (1- (point-max)))
    (test-type "t e")
    (should (> (length (test-ghost)) 0))
    (set-buffer-modified-p nil)
    (kill-buffer)
    (greencode-shutdown)
    (should-not (file-exists-p (expand-file-name "ran" test-repository)))))

(provide 'emacs_hostile)
;;; emacs_hostile.el ends here
