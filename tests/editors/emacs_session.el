;;; emacs_session.el --- One user's session, in batch  -*- lexical-binding: t; -*-

;;; Commentary:

;; How a test opens a file, types, and waits.  Nothing sleeps: a wait ends with the condition it waits for, or fails.

;;; Code:

(require 'cl-lib)
(require 'ert)
(require 'greencode)

(setq make-backup-files nil auto-save-default nil create-lockfiles nil
      python-indent-guess-indent-offset nil
      vc-handled-backends nil           ; the folders of tests are nobody's project
      enable-local-variables :all)

(defconst test-deadline (string-to-number (or (getenv "GREENCODE_TEST_DEADLINE") "30"))
  "Seconds after which a wait fails.")
(defconst test-python (getenv "GREENCODE_TEST_PYTHON"))
(defconst test-fake (list test-python "-m" "tests.fake_server"))
(defconst test-real (list test-python "-m" "greencode_lsp" "--stdio"))
(defvar test-folder (file-name-as-directory (make-temp-file "greencode-emacs-" t)))
(defvar test-number 0)
(defvar test-messages nil "What was said in the echo area, latest first.")
(defvar test-answers 0 "How many answers to inline completion have come, also those that are dropped.")
(defvar test-sent nil "(METHOD . PARAMS) of what was sent, latest first.")

(setq greencode-command test-fake)

(define-advice message (:before (&optional format &rest arguments) note)
  (when format (push (apply #'format-message format arguments) test-messages)))

(define-advice greencode-notify (:before (_server method params) note)
  (push (cons method params) test-sent))

(define-advice greencode-request (:around (call server method params on-result &optional on-error) note)
  (push (cons method params) test-sent)
  (funcall call server method params
           (lambda (result)
             (funcall on-result result)
             (when (equal method "textDocument/inlineCompletion") (cl-incf test-answers)))
           on-error))

(defun test-wait (what condition)
  "Wait until CONDITION returns non-nil, and return that; WHAT says what for."
  (let ((deadline (+ (float-time) test-deadline)) value)
    (while (not (or (setq value (funcall condition)) (> (float-time) deadline)))
      (accept-process-output nil 0.02))
    (or value (ert-fail (format "waited for %s in vain; status %S; ghost %S; said %S" what
                                (greencode-status) (greencode-ghost-text) (seq-take test-messages 5))))))

(defun test-type (keys)
  "Press KEYS as `kbd' reads them, through the command loop."
  (execute-kbd-macro (kbd keys)))

(defun test-count (method)
  "Return how often METHOD was sent."
  (cl-count method test-sent :key #'car :test #'equal))

(defun test-said (regexp)
  "Return how often something that REGEXP matches was said."
  (cl-count-if (lambda (message) (string-match-p regexp message)) test-messages))

(defun test-ready-p ()
  "Return non-nil once the model is loaded."
  (equal "ready" (plist-get (greencode-status) :state)))

(defun test-ghost ()
  "Wait for ghost text and return it."
  (test-wait "ghost text" #'greencode-ghost-text))

(defun test-open (marked &optional name)
  "Visit a new file with the text MARKED, point at its |; NAME is the file's."
  (let ((file (expand-file-name (or name (format "sample_%d.py" (cl-incf test-number))) test-folder)))
    (write-region (replace-regexp-in-string "|" "" marked) nil file nil 'silent)
    (switch-to-buffer (find-file-noselect file))
    (goto-char (+ (point-min) (string-match "|" marked)))))

(defun test-skip (reason)
  "Skip the test for REASON, which ERT keeps to itself in batch."
  (message "skipped because %s" reason)
  (ert-skip reason))

(defun test-needs (command)
  "Skip the test where the server does not know COMMAND yet."
  (let ((known (plist-get (plist-get (greencode--capabilities (greencode-buffer-server)) :executeCommandProvider)
                          :commands)))
    (unless (cl-find command known :test #'equal)
      (test-skip (format "the server has no %s" command)))))

(defvar test-manage #'greencode-mode "Has a server manage the current buffer.")

(defmacro test-in (marked &rest body)
  "Run BODY in a new file with the text MARKED, once its server is ready."
  (declare (indent 1))
  `(unwind-protect
       (progn
         (setq test-messages nil test-sent nil)
         (test-open ,marked)
         (funcall test-manage)
         (test-wait "the server" #'test-ready-p)
         ,@body)
     (set-buffer-modified-p nil)
     (kill-buffer)))

(provide 'emacs_session)
;;; emacs_session.el ends here
